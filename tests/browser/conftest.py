"""A real browser without a window, and the results of a small pipeline that it looks at."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect, compare, evaluate, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking.labels import Labels, labelled

SETTINGS = ("preset=tiny", "dataset=pendulum_state", "validation.horizons=[1,5,15]")
OBJECTIVES = ("reconstruction", "reward_only")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync --window-size=1600,1000"
)
WAIT_SECONDS = 120.0  # on a busy machine
PROGRAMS = {"browser": ("chromium", "chromium-browser", "google-chrome"), "driver": ("chromedriver",)}


class Browser:
    """What a person sees of a page, and what the page did behind it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str, *, dark: bool = False, width: int = 1600) -> None:
        """Opens a page from scratch, also one that differs from the present one behind the # only."""
        self.driver.get("about:blank")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for kind in ("browser", "performance"):  # forget what the last page did
            self.driver.get_log(kind)
        self.driver.get(address)

    @property
    def text(self) -> str:
        """The visible text."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Waits until the condition holds; an element may vanish while the page draws itself."""
        end, failed = time.monotonic() + WAIT_SECONDS, ""
        while time.monotonic() < end:
            try:
                if value := condition():
                    return value
            except WebDriverException as error:
                failed = str(error)
            time.sleep(0.2)
        raise AssertionError(f"the page shows after {WAIT_SECONDS:.0f} s: {self.text[:2000]}\n{failed}")

    def shows(self, *texts: str) -> None:
        """Waits until the page shows all texts."""
        self.wait(lambda: all(text in self.text for text in texts))

    def run(self, script: str) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script)

    def elements(self, selector: str) -> list[Any]:
        """The elements that match a CSS selector."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def errors(self) -> list[str]:
        """What the page wrote to the console as an error."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The addresses that the page asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent]


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    """The paths of the browser and its driver; without them the tests are skipped."""
    found = {kind: next(filter(None, map(shutil.which, names)), None) for kind, names in PROGRAMS.items()}
    missing = [kind for kind, path in found.items() if path is None]
    if missing:
        pytest.skip(f"no {missing[0]} is installed; on Debian and Ubuntu: apt-get install chromium chromium-driver")
    return {kind: str(path) for kind, path in found.items()}


@pytest.fixture(scope="module")
def browser(programs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the tests of a file: an open one takes time from all other tests."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs["browser"]
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["driver"]))
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def project(programs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - skips first
    """A folder with the results of two objectives. It is the working folder while it is made."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DREAMSET_TRACKING", "foreground")
        patch.chdir(folder)
        config = compose(SETTINGS)
        with labelled(Labels({"preset": "tiny", "world_model": "dreamer_v1"})):
            collect.run(stages.collect(config))
            ingest.run(stages.ingest(config))
            for objective in OBJECTIVES:
                config = compose([*SETTINGS, f"objective={objective}"])
                for stage in (train_world_model, learn_behavior, evaluate):
                    name = stage.__name__.rpartition(".")[2]
                    stage.run(stages.STAGES[name](config))
            compare.run(stages.compare(config, OBJECTIVES, [0]))
    os.chdir(before)
    return folder
