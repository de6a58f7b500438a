"""Train the diabetes regression: `python train.py [FOLDER]` writes diabetes.joblib and sample.json there.

Scikit-learn's bundled study of 442 patients: ten measurements, and the progression of the disease one year later.
"""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    study = load_diabetes()
    rows, test_rows, progress, test_progress = train_test_split(study.data, study.target, test_size=88, random_state=0)
    model = Ridge(alpha=0.1).fit(rows, progress)
    print(f"R2 on {len(test_rows)} patients held out: {model.score(test_rows, test_progress):.3f}")
    joblib.dump(model, folder / "diabetes.joblib")
    (folder / "sample.json").write_text(json.dumps({"data": test_rows[:2].tolist()}, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
