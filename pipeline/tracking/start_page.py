"""MLflow's server with a start page, which hides what distracts from the results.

MLflow opens its assistant on the first visit and shows a notice on usage data. Both are settings that a browser keeps
for one address. The page at ``/dreamset`` sets them, unless a person has, and goes on to the page behind the ``#``. The
entry point ``dreamset`` of the group ``mlflow.app`` names ``app`` for ``mlflow server --app-name dreamset``.
"""

from fastapi.responses import HTMLResponse
from mlflow.server.fastapi_app import app
from starlette.requests import Request
from starlette.routing import Route

from dreamset.pipeline.tracking.ui import APP

PAGE = """<!doctype html>
<title>Dreamset</title>
<noscript>The pages of MLflow need JavaScript.</noscript>
<script>
const settings = {
  "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
  "mlflow.telemetry.info.alert.dismissed_v1": "true",
  "mlflow.settings.telemetry.enabled_v1": "false",
};
for (const [name, value] of Object.entries(settings))
  if (localStorage.getItem(name) === null) localStorage.setItem(name, value);
location.replace("/" + location.hash);
</script>
"""


def _page(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


app.router.routes.insert(0, Route(f"/{APP}/", _page))  # MLflow's last route answers all other addresses
