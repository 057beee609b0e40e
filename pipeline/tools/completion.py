"""``dreamset completion``: what may follow the words of a command line, and the code by which shells ask for it."""

from collections.abc import Sequence

from dreamset.pipeline.config.groups import groups
from dreamset.pipeline.tools.listing import OTHERS

# The code of each shell asks `dreamset completion SHELL --words COMMAND ... WORD`, with the unfinished word last.
CODE = {
    "bash": """\
_dreamset() {
  local line="${COMP_LINE:0:COMP_POINT}" words word
  read -ra words <<< "$line"
  [[ "$line" == *" " ]] && words+=("")
  word="${words[-1]}"
  mapfile -t COMPREPLY < <(dreamset completion bash --words "${words[@]:1}" 2>/dev/null)
  if [[ "$word" == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#*=}"); fi  # bash splits words at an equals sign
  if [[ "${COMPREPLY[0]:-}" == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _dreamset dreamset""",
    "zsh": """\
_dreamset() {
  local -a found
  found=("${(@f)$(dreamset completion zsh --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -S '' -- $found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _dreamset dreamset""",
    "fish": """\
function __dreamset
  dreamset completion fish --words (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c dreamset -f -a '(__dreamset)'""",
}


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word, which may be unfinished or empty."""
    *before, word = words or [""]
    return [text for text in _possible(before, word) if text.startswith(word)]


def _possible(before: Sequence[str], word: str) -> list[str]:
    from dreamset.pipeline.cli import Parser

    commands = Parser().commands
    if not before:
        return list(commands)
    command = before[0]
    if command == "list":
        return [*groups(), *OTHERS]
    if command == "show" and len(before) == 1:
        return [name for name in commands if "overrides" in commands[name]]
    if "overrides" not in commands.get(command, ()):
        return []
    group, equals, _ = word.partition("=")
    if equals:
        return [f"{group}={name}" for name in groups().get(group, ())]
    return [f"{name}=" for name in groups()]
