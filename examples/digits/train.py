"""Train the digit classifier: `python train.py [FOLDER]` writes digits.joblib, both schemas and both samples there.

Scikit-learn's bundled scans of 1797 handwritten digits, 8 x 8 pixels of 0 (paper) to 16 (ink).
"""

import base64
import io
import json
import sys
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import score
import score_image
from argosy.schema import DataTypes, SampleDefinition, generate_schema


def picture(pixels: np.ndarray) -> bytes:
    """A PNG of 64 x 64 grey pixels, black on white, of one digit's 64 values."""
    grey = np.round(255 * (1 - pixels.reshape(8, 8) / 16)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((64, 64), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images, test_images, labels, test_labels = train_test_split(
        digits.data, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    model = SVC(gamma=0.001, C=10).fit(images, labels)
    print(f"accuracy on {len(test_images)} digits held out: {model.score(test_images, test_labels):.3f}")
    joblib.dump(model, folder / "digits.joblib")

    rows = test_images[:2]
    generate_schema(
        score.run, {"images": SampleDefinition(DataTypes.NUMPY, rows)}, filepath=str(folder / "schema.json")
    )
    write_json(folder / "sample.json", {"images": rows.tolist()})

    png = picture(test_images[0])
    generate_schema(
        score_image.run,
        {"image": SampleDefinition(DataTypes.STANDARD, png)},
        filepath=str(folder / "schema_image.json"),
    )
    write_json(folder / "sample_image.json", {"image": base64.b64encode(png).decode()})


def write_json(path: Path, body: dict[str, object]) -> None:
    path.write_text(json.dumps(body) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
