"""Terminals, environments and files around a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from inputs_situation import Situation, command, photos, recipe

RUN = ("distill-and-export", "--recipe", "r.toml", "--out", "run", "-q")


def encoded(name: str) -> Callable[[], str]:
    def probe() -> str:
        photos()
        recipe()
        return command(*RUN, env={"PYTHONIOENCODING": name, "PYTHONUTF8": "0"})

    return probe


def elsewhere() -> str:
    photos()
    recipe()
    done = command(*RUN)
    Path("other").mkdir()
    os.chdir("other")
    return done if not done.startswith("exit 0") else command("check", "../run/bundle", "-q")


def spaces() -> str:
    photos()
    recipe()
    command(*RUN)
    return command("export", "run/student/trained", "--out", "b", "--precision", "fp32, fp16", "-q")


def with_mark() -> str:
    photos()
    Path("r.toml").write_text(Path(recipe()).read_text(encoding="utf-8"), encoding="utf-8-sig")
    return command(*RUN)


def mounted() -> str:
    """--out is a mounted volume, as a container has it."""
    photos()
    recipe()
    command(*RUN)
    Path("volume").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", "volume"], capture_output=True, check=False
    )
    if done.returncode:
        return "not tried: may not mount"
    try:
        return command("export", "run/student/trained", "--out", "volume", "-q")
    finally:
        subprocess.run(["umount", "volume"], check=False)


def proxied(**env: str) -> Callable[[], str]:
    """Whether the demo's page comes up."""

    def probe() -> str:
        import httpx
        from inputs_service import bundle, free_port

        port = free_port()
        words = [
            sys.executable,
            "-m",
            "mldr_deploy",
            "demo",
            bundle(),
            "--port",
            str(port),
            "--threads",
            "1",
        ]
        with Path("demo.txt").open("wb") as log:
            page = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **env})
        try:
            for _ in range(120):
                if page.poll() is not None:
                    text = Path("demo.txt").read_text(errors="replace")
                    crash = "Traceback: " if "Traceback" in text else ""
                    return f"exit {page.returncode}; {crash}{text.strip().splitlines()[-1]}"
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=5)
                    return f"page {answer.status_code}"
                except httpx.TransportError:
                    time.sleep(0.5)
            return "no page within a minute"
        finally:
            page.send_signal(signal.SIGINT)
            try:
                page.wait(20)
            except subprocess.TimeoutExpired:
                page.kill()

    return probe


def alone() -> str:
    """WORLD_SIZE=2 and nobody else: what is said within 20 seconds."""
    photos()
    recipe()
    from inputs_service import free_port

    env = {
        **os.environ,
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    with Path("out.txt").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "mldr_deploy", *RUN], stdout=log, stderr=log, env=env
        )
    time.sleep(25)
    run.kill()
    run.wait()
    lines = Path("out.txt").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"


SITUATIONS = [
    *(
        Situation("terminals", f"stdout in {name}", r"^exit 0;", encoded(name))
        for name in ("ascii", "latin-1", "cp1252", "koi8-r", "euc-jp")
    ),
    Situation(
        "commands", "check, the folder of pictures being elsewhere", r"^exit 2;.*--data", elsewhere
    ),
    Situation("commands", '--precision "fp32, fp16"', r"^exit 0;", spaces),
    Situation("commands", "a recipe with a BOM", r"^exit 0;", with_mark),
    Situation("commands", "export --out on a mounted volume", r"^exit 0;|not tried", mounted),
    Situation(
        "environment",
        "demo with all_proxy=socks5://",
        r"^page 200",
        proxied(all_proxy="socks5://127.0.0.1:9"),
    ),
    Situation(
        "environment",
        "demo with HTTPS_PROXY=socks5h://",
        r"^page 200",
        proxied(HTTPS_PROXY="socks5h://127.0.0.1:9"),
    ),
    Situation(
        "environment",
        "demo with http_proxy=nonsense",
        r"^page 200",
        proxied(http_proxy="::nonsense"),
    ),
    Situation("environment", "WORLD_SIZE=2 and nobody comes", r"(?i)wait|process", alone),
]
