"""Programs of `torch.export`: PyTorch alone loads them, with the network's outputs."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lkd.data import load
from lkd.export import export_program
from lkd.models.slak import SLaK
from lkd.util.files import CHECKOUT

pytestmark = pytest.mark.usefixtures("one_thread")

FORM = {"dims": (8, 8), "depths": (1, 1), "kernel_sizes": (15, 7), "patch_size": 4, "layer_scale": 1.0}
WITHOUT_LKD = """
import sys
sys.modules["lkd"] = None
import torch
program = torch.export.load("student.pt2").module()
torch.save(program(torch.load("images.pt")), "logits.pt")
"""


@pytest.mark.slow
def test_pytorch_alone_loads_a_network_with_large_kernels(tmp_path: Path) -> None:
    model = SLaK(in_chans=1, num_classes=10, **FORM).eval()
    found = export_program(model, tmp_path / "student.pt2", data="digits", fold=True)
    data = load("digits")
    images, _ = next(data.batches(data.test, torch.arange(9), 9))
    torch.save(images, tmp_path / "images.pt")
    subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_LKD], cwd=tmp_path, check=True)
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(images), rtol=1e-3, atol=1e-4)
    with zipfile.ZipFile(found.path) as archive:
        content = b"".join(map(archive.read, archive.namelist()))
        (about,) = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith("lkd.json")]
    assert b"site-packages" not in content and str(CHECKOUT).encode() not in content
    assert about["shape"] == '["batch", 1, 32, 32]' and about["batch norm"] == "folded into convolutions"
    assert "torch.export.load" in found.card.read_text()


@torch.library.custom_op("tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return 2 * x


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class HasAnOperatorOfItsOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1024, 10)

    def forward(self, images: Tensor) -> Tensor:
        return doubled(self.head(images.flatten(1)))


def test_an_operator_that_pytorch_lacks_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its graph has the operator tests.doubled.default, which PyTorch alone"):
        export_program(HasAnOperatorOfItsOwn(), tmp_path / "student.pt2", data="digits")
    with pytest.raises(ValueError, match=r"path must end in \.pt2"):
        export_program(HasAnOperatorOfItsOwn(), tmp_path / "student.onnx", data="digits")
    assert not list(tmp_path.iterdir())
