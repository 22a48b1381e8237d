"""Loads what Rekindle exports with timm's and torchvision's names in these programs, and compares their logits with Rekindle's.

Run by hand, with the files that a test leaves, in a venv with `pip install torch torchvision timm safetensors`:

    REKINDLE_EXPORT_DIR=DIR cargo test -p rekindle-weights --lib -- --ignored writes_files_for_torch
    python tests/keras/torch_export.py DIR [NAME ...]

The network is made as the file's own metadata says (`config.json`), and takes its tensors by `load_state_dict`, strictly. Logits
are compared up to 1e-5 of the largest.
"""

import json
import sys
import warnings
from pathlib import Path

import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file

warnings.filterwarnings("ignore")
TOLERANCE = 1e-5


def network(program, config):
    arguments = dict(config.get("model_args", {}))
    arguments["num_classes"] = int(arguments["num_classes"])
    if program == "timm":
        return timm.create_model(config["architecture"], **arguments)
    return getattr(torchvision.models, config["architecture"])(**arguments)


def difference(folder, case, answers):
    path = folder / f"{case['name']}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config.json"])
    model = network(case["program"], config)
    # Strict, but for the counters of batches, which only training has.
    found = model.load_state_dict(load_file(path), strict=False)
    missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    assert not missing and not found.unexpected_keys, (missing, found.unexpected_keys)
    model.eval()
    photos = config["pretrained_cfg"]
    image = answers[f"{case['name']}/input"].permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(photos[name], dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
    prepared = lambda image: ((image.double() - mean) / deviation).float()
    with torch.no_grad():
        logits = model(prepared(image)).double()
        # What the answer owes to the image: where it is nothing, nothing is compared.
        black = model(prepared(torch.zeros_like(image))).double()
    expected = answers[f"{case['name']}/output"].double()
    largest = max(1.0, float(expected.abs().max()))
    return float((logits - expected).abs().max()) / largest, float((logits - black).abs().max()) / largest


def main():
    folder = Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    wanted = sys.argv[2:]
    cases = [case for case in cases if not wanted or any(part in case["name"] for part in wanted)]
    answers = load_file(folder / "answers.safetensors")
    worst, failed = {}, []
    for case in cases:
        try:
            far, owed = difference(folder, case, answers)
        except Exception as error:
            failed.append(f"{case['name']}: {str(error)[:1500]}")
            continue
        print(f"{case['name']}: {far:.1e} off, {owed:.1e} from a black image's", flush=True)
        kind = "keras" if case["name"].startswith("keras") else case["program"]
        worst[kind] = max(worst.get(kind, (0.0, 0))[0], far), worst.get(kind, (0.0, 0))[1] + 1
        if far > TOLERANCE or owed < 1e-2:
            failed.append(f"{case['name']}: {far:.1e} off, {owed:.1e} from a black image's")
    for kind, (far, count) in worst.items():
        print(f"{kind}: {count} networks, at most {far:.1e}")
    print("\n".join(failed))
    sys.exit(1 if failed else 0)


main()
