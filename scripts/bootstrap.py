"""Put the pinned uv into .tools, with nothing but a Python: `python3 scripts/bootstrap.py UV_VERSION`.

Debian's own Python comes without ensurepip (it is in the package python3-venv); then pip itself is fetched
first,
by address and checksum.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"
PIP_WHEEL = (
    "https://files.pythonhosted.org/packages/07/25/ee8c38ae72d66b844ce8eb9711ba905dba21ca1a8a0c960057c41cd23337/"
    "pip-26.3-py3-none-any.whl"
)
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
REMEDY = "install the missing part with: apt-get install python3-venv"


def main(uv_version: str) -> None:
    if sys.version_info < (3, 11):
        sys.exit("turnstream needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11")
    shutil.rmtree(TOOLS, ignore_errors=True)
    with_pip = importlib.util.find_spec("ensurepip") is not None
    venv.create(TOOLS, with_pip=with_pip, symlinks=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = ["-m", "pip"] if with_pip else [f"{fetch_pip(Path(folder))}/pip"]
        install = [TOOLS / "bin" / "python", *pip, "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"uv=={uv_version}"], check=True)


def fetch_pip(folder: Path) -> Path:
    wheel = folder / PIP_WHEEL.rpartition("/")[2]
    try:
        with urllib.request.urlopen(PIP_WHEEL, timeout=60) as response:
            content = response.read()
    except OSError as error:
        sys.exit(f"this Python has no ensurepip, and pip could not be fetched ({error}): {REMEDY}")
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        sys.exit(f"this Python has no ensurepip, and {PIP_WHEEL} is not what it should be: {REMEDY}")
    wheel.write_bytes(content)
    return wheel


if __name__ == "__main__":
    main(sys.argv[1])
