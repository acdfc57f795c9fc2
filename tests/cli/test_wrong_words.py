"""Wrong command lines: a message of one or two lines with the fix, exit code 2, and nothing written."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import content, lkd, save
from PIL import Image

from lkd import Recipe
from lkd.runs import published as records
from lkd.runs.store import Store

RUN = Recipe(data="digits", student="mini_resnet")
OTHER = next(
    recipe
    for seed in range(1, 1000)
    if (recipe := Recipe(data="digits", student="mini_resnet", seed=seed)).run_id[0] == RUN.run_id[0]
)
ID, SHARED = RUN.run_id, RUN.run_id[0]
NOBODY = next(digit for digit in "0123456789abcdef" if digit != SHARED) + "123"
ON_DIGITS = ("--data", "digits")

WRONG = [
    # the command itself
    ("distil mini_resnet mini_slak", "No such command 'distil'. Did you mean 'distill'? See: lkd --help"),
    ("--verbose chapters", "No such option: --verbose. See: lkd --help"),
    # chapters
    ("run", "Missing argument 'CHAPTER...'. See: lkd run --help"),
    ("run logits", "unknown chapter 'logits': did you mean 'logit_kd'"),
    ("run erf -p teacher=1", "unknown parameter of chapter 'erf' 'teacher': did you mean 'teachers'"),
    ("run erf -p seeds", "-p takes NAME=VALUE, got 'seeds'"),
    ("run erf -p 2seeds=1", "-p takes NAME=VALUE, got '2seeds=1'"),
    ("run erf -p seeds=[0] -p seeds=[1]", "-p gives 'seeds' twice: leave one of them out"),
    ("study erf -p profile=smoke", "the scale is given as --profile, not as -p profile=..."),
    ("study erf --executor submitit --slurm exclusive=no", "--slurm has the string 'no' for 'exclusive'"),
    ("study erf -p seeds=[True]", "seeds must be a list of int, got [True]"),
    ("run logit_kd -p objectives=['nkdd']", "unknown objective 'nkdd': did you mean 'nkd'"),
    ("run logit_kd -p teachers=['mini_slac']", "did you mean 'mini_slak'"),
    ("run feature_kd -p variants=['FDK']", "unknown entry of variants 'FDK': did you mean 'FD'"),
    ("run longer_training -p seeds=[]", "seeds is empty"),
    ("run kernel_size -p profile=smoke -p sizes=[4]", "sizes"),
    ("run erf -p seeds=0", "seeds"),
    ("run erf logit_kd -o out.ipynb", "--output is for one chapter, got 2"),
    ("run erf -o out.html", "must be a notebook and end in .ipynb, got out.html"),
    ("run erf --agian", "No such option: --agian"),
    ("show logits", "unknown chapter 'logits': did you mean 'logit_kd'"),
    ("show", "Missing argument 'CHAPTER...'"),
    ("chapters --profile smal", "unknown profile 'smal': did you mean 'small'"),
    ("chapters erf", "unexpected extra argument"),
    ("publish", "Missing argument 'PROFILE'"),
    ("publish smal", "unknown profile 'smal'"),
    ("publish smoke", "no study of profile 'smoke' is done: `lkd run` its chapters first"),
    ("claims --profile large", "unknown profile 'large'"),
    ("claims logits-help", "unknown claim 'logits-help': did you mean 'logits-help-at-all'"),
    ("claims --published", "no runs of profile 'small' are published (published profiles: none)"),
    # a recipe in a file
    ("run-recipe", "Missing argument 'RECIPE'"),
    ("run-recipe nothing.json", "'nothing.json' is neither a file"),
    ("run-recipe pictures", "'pictures' is neither a file"),
    ("run-recipe broken.json", "broken.json is damaged or no JSON object"),
    ("run-recipe list.json", "list.json is damaged or no JSON object"),
    ("run-recipe field.json", "unknown field of a recipe 'epoch': did you mean 'epochs'"),
    ("run-recipe student.json", "unknown student model 'mini_resnt': did you mean 'mini_resnet'"),
    # tapes
    ("tape lst", "No such command 'lst'. Did you mean 'list'? See: lkd tape --help"),
    ("tape verify nothing", "unknown tape 'nothing': `lkd tape list`"),
    ("tape verify --batches 0", "Input should be greater than or equal to 1"),
    # production
    ("export", "Missing argument 'MODEL'. See: lkd export --help"),
    (f"export {ID} --format onx", "'onx' is not one of 'onnx', 'torch-export', 'safetensors'"),
    (f"export {ID} --format safetensors --int8", "--int8 is for --format onnx, not for safetensors"),
    (f"export {ID} --format torch-export --int8", "--int8 is for --format onnx, not for torch-export"),
    (f"export {ID} --format safetensors --fold", "--fold is for --format onnx and torch-export"),
    (f"export {ID} --max-drop 5", "--max-drop 5 has no effect without --int8"),
    (f"export {ID} --int8 --max-drop -1", "Input should be greater than or equal to 0"),
    (f"export {ID} -o student.pt2", "--output must end in .onnx for --format onnx, got student.pt2"),
    (f"export {ID} --format torch-export -o a.onnx", "--output must end in .pt2 for --format torch-export"),
    ("export mini_resnet", "'mini_resnet' has no pretrained weights"),
    (f"export {NOBODY}", f"no run has an id that begins with '{NOBODY}'"),
    (f"export {ID} --data folder:PICTURES", "does not take the images of folder"),
    ("pareto", "Missing argument 'MODEL...'. See: lkd pareto --help"),
    (f"pareto {ID} mini_resnt", "unknown model 'mini_resnt': did you mean 'mini_resnet'"),
    (f"pareto {ID} {ID}", "models names something twice"),
    (f"pareto {ID} --threads 0", "Input should be greater than or equal to 1"),
    (f"pareto {ID} -o figure.png", "path must end in .html, got 'figure.png'"),
    ("pareto mini_vit mini_slak -o figure.html", "--output plots accuracy, but none of mini_vit, mini_slak is a run"),
    (f"pareto {ID} --data tiny", f"data is 'tiny', but run {ID} was tested on 'digits'"),
    # training
    ("distill mini_resnet mini_slak", "Missing option '--data'"),
    ("distill mini_resnet --data digits", "Missing argument 'TEACHER'"),
    ("distill mini_resnt mini_slak --data digits", "unknown model 'mini_resnt': did you mean 'mini_resnet'?"),
    ("distill mini_resnet mini_slack --data digits", "unknown model 'mini_slack': did you mean 'mini_slak'?"),
    ("distill mini_resnet mini_convnext_nano --data digits", "'mini_convnext_nano' has no pretrained weights"),
    ("distill mini_resnet mini_slak --data digit", "unknown data set 'digit': did you mean 'digits'"),
    ("distill mini_resnet mini_slak --data folder:/nowhere", "there is no folder /nowhere: it needs train/"),
    ("distill mini_resnet mini_slak --data digits --objective nkdd", "unknown objective 'nkdd': did you mean 'nkd'"),
    ("distill mini_resnet mini_slak --data digits --profile tiny", "unknown profile 'tiny'"),
    ("distill mini_resnet mini_slak --data digits --set epochs", "--set takes NAME=VALUE, got 'epochs'"),
    ("distill mini_resnet mini_slak --data digits --set epoch=3", "unknown setting 'epoch': did you mean 'epochs'"),
    ("distill mini_resnet mini_slak --data digits --set epochs=0", "epochs must be at least 1, got 0"),
    ("distill mini_resnet mini_slak --data digits --set lr=fast", "lr must be a number, got 'fast'"),
    ("distill mini_resnet mini_slak --data digits --set lr=1 --set lr=2", "--set gives 'lr' twice"),
    ("distill mini_resnet mini_slak --data digits --set flip=no", "flip must be True or False, got 'no'"),
    ("distill mini_resnet mini_slak --data digits --set precision=off", "unknown precision 'off'"),
    ("distill mini_resnet mini_slak --data digits --set epochs=010", "epochs must be a whole number, got '010'"),
    ("distill mini_resnet mini_slak --data digits --set warmup=1:30", "warmup must be a number, got '1:30'"),
    ("distill mini_resnet mini_slak --data digits --set objective=kd", "does not take 'objective': give it as --obj"),
    ("distill mini_resnet mini_slak --data digits --set store=here", "does not take 'store': give it as LKD_HOME"),
    ("distill mini_resnet mini_slak --data digits --option tape=no", "tape must be True or False, got 'no'"),
    ("distill mini_resnet mini_slak --data digits --set batch_size=9999", "9999"),
    ("distill mini_resnet mini_slak --data digits --processes 0", "Input should be greater than or equal to 1"),
    ("distill mini_resnet ./teacher --data digits", "there is no folder teacher: give one written by"),
    (f"distill mini_resnet {NOBODY} --data digits", f"no run has an id that begins with '{NOBODY}'"),
    (f"distill mini_resnet {SHARED} --data digits", f"2 runs have an id that begins with '{SHARED}'"),
    ("distill mini_resnet mini_slak --data digits --save broken.json", "'broken.json' is a file"),
    ("distill mini_resnet pictures --data digits", "config.json"),
    ("train mini_slk --data digits", "unknown model 'mini_slk': did you mean 'mini_slak'?"),
    ("train mini_slak --data digits --set temperature=2", "unknown setting 'temperature'"),
    ("train mini_slak --data digits --set lr=-1", "lr must be above 0, got -1"),
    # trained models
    ("evaluate", "Missing argument 'MODEL'"),
    ("evaluate mini_resnet --data digits", "'mini_resnet' has no pretrained weights: give the id of a run"),
    (f"evaluate {ID} --split tests", "unknown split 'tests': did you mean 'test'"),
    (f"evaluate {ID} --data folder:PICTURES", "does not take the images of folder:"),
    (f"evaluate {ID} --image-size 64", "image_size is 64, but has no effect on images in memory"),
    (f"erf {ID} --save map.jpg", "must end in .npz or .png, got map.jpg"),
    (f"erf {ID} --size 0", "Input should be greater than or equal to 1"),
    (f"erf {ID} --size 64 --count 9999", "count is 9999, but there are 250 images"),
    (f"robustness {ID} --count 9999", "count must be at least 1 and at most 250, got 9999"),
    (f"robustness {ID} --imagenet nowhere", "get it from https://"),
    (f"robustness {ID} --imagenet nowhere --sets C,B", "unknown set 'B'"),
    (f"robustness {ID} --imagenet nowhere --data digits", "leave one of them out"),
    # the store
    ("store show", "Missing argument 'RUN'"),
    (f"store show {NOBODY}", f"no run has an id that begins with '{NOBODY}': `lkd store list`"),
    (f"store compare {ID}", f"give two or more runs, each once, got {ID}"),
    (f"store compare {ID} {ID}", "give two or more runs, each once"),
    ("store list --student mini_resnt", "unknown student of the runs in this store 'mini_resnt': did you mean"),
    ("store prune --objective kd --yes", "unknown objective of the runs in this store 'kd'"),
    ("store remove", "No such command 'remove'. See: lkd store --help"),
    # data and machine
    ("data check", "Missing argument 'NAME'"),
    ("data check digits", "'digits' is not a data set of files"),
    ("data check pets", "unknown data set 'pets'. There are: cifar10_jpeg, digits, fashion_mnist, folder:PATH"),
    ("data check folder:/nowhere", "there is no folder /nowhere"),
    ("data check folder:UNEQUAL", "lacks 'dog' compared with the classes of"),
    ("data check wds:/nowhere", "unpack them, with one folder per class"),
    ("doctor --jsn", "No such option: --jsn"),
    ("doctor all", "unexpected extra argument"),
]


def picture(*parts: str | Path) -> None:
    path = Path(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40)).save(path)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A home with two runs, and a working directory with invalid files."""
    home, here, before = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("here"), Path.cwd()
    for recipe in (RUN, OTHER):
        save(Store(home), recipe)
    (here / "broken.json").write_text("{half")
    (here / "list.json").write_text("[1, 2]")
    (here / "field.json").write_text(json.dumps({"data": "digits", "student": "mini_vit", "epoch": 3}))
    (here / "student.json").write_text(json.dumps({"data": "digits", "student": "mini_resnt"}))
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            picture(here, "pictures", split, label, "1.png")
    picture(here, "unequal", "train", "cat", "1.png")
    picture(here, "unequal", "train", "dog", "1.png")
    picture(here, "unequal", "val", "cat", "1.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LKD_HOME", str(home))
        patch.setattr(records, "FOLDER", here / "published")
        os.chdir(here)
        yield home, here
        os.chdir(before)


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_is_answered_in_a_line_or_two(places: tuple[Path, Path], line: str, message: str) -> None:
    before = content(*places)
    named = {"PICTURES": places[1] / "pictures", "UNEQUAL": places[1] / "unequal"}
    for name, path in named.items():
        line = line.replace(name, str(path))
    answer = lkd(*line.split())
    assert message in answer.stderr
    assert answer.exit_code == 2 and answer.stdout == ""
    assert answer.stderr.startswith("lkd: ") and len(answer.stderr.splitlines()) <= 2
    assert content(*places) == before
