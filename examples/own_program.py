"""A training program that knows nothing of lensllm, and how lensllm chooses a model with it.

    python examples/own_program.py

runs the campaign, which calls this file once more for each trial, as it would call any program:

    python own_program.py MODEL TRAIN_FILE TEST_FILE SEED OUTPUT_DIR

The task: reverse a short word, spelled letter by letter. Two models of the zoo; it takes about a
minute on one CPU core.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PLACEHOLDERS = '"{model}","{train_file}","{test_file}","{seed}","{output_dir}"'


def train(model_folder, train_file, test_file, seed, output_dir):
    """One epoch on the training file; the loss on the test file goes into metrics.json."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def batches(path):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        texts = [f"{row['input']} > {row['target']}" for row in rows]
        for start in range(0, len(texts), 16):
            batch = tokenizer(texts[start : start + 16], return_tensors="pt", padding=True)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            yield {**batch, "labels": labels}

    torch.manual_seed(int(seed))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for batch in batches(train_file):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        print(f"training loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        losses = [model(**batch).loss.item() for batch in batches(test_file)]
    metrics = {"eval_loss": sum(losses) / len(losses)}
    Path(output_dir, "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def choose():
    """The campaign, as one would type it in a terminal."""
    folder = Path(tempfile.mkdtemp())
    letters = random.Random(0)
    words = {"".join(letters.choices("abcdefgh", k=5)) for _ in range(1200)}
    with (folder / "words.jsonl").open("w", encoding="utf-8") as stream:
        for word in sorted(words):
            pair = {"input": " ".join(word), "target": " ".join(reversed(word))}
            stream.write(json.dumps(pair) + "\n")
    command = [
        *(sys.executable, "-m", "lensllm", "select", "runner=command", "logger=none"),
        *("dataset=jsonl", f"dataset.path={folder / 'words.jsonl'}"),
        "candidates.models=[gpt2-48x2,opt-64x2]",
        f'runner.command=["{sys.executable}","{Path(__file__).resolve()}",{PLACEHOLDERS}]',
        "runner.result.file=metrics.json",
        *("n_samples_full=800", "budget.fraction=0.6", f"paths.output_dir={folder / 'outputs'}"),
    ]
    subprocess.run(command, check=True)
    (selection,) = folder.glob("outputs/select/*/selection.json")
    answer = json.loads(selection.read_text(encoding="utf-8"))
    print(f"Fine-tune {answer['selected']}: {answer['verdict']['kind']}")


if __name__ == "__main__":
    train(*sys.argv[1:]) if len(sys.argv) > 1 else choose()
