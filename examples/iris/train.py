"""Train the iris classifier: `python train.py [FOLDER]` writes model.pkl, schema.json and sample.json there.

Scikit-learn's bundled iris measurements of 150 flowers, in centimetres; 30 of them are held out to test with.
"""

import json
import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from argosy.schema import DataTypes, SampleDefinition, generate_schema
from score import run

COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


def split() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Rows and species to train with and to test with: train rows, test rows, train species, test species."""
    iris = load_iris()
    rows = pd.DataFrame(iris.data, columns=COLUMNS)
    species = pd.Series(iris.target_names[iris.target], dtype=object)
    return train_test_split(rows, species, test_size=30, random_state=0, stratify=species)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, test_rows, species, test_species = split()
    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=0)).fit(rows, species)
    print(f"accuracy on {len(test_rows)} flowers held out: {model.score(test_rows, test_species):.3f}")
    joblib.dump(model, folder / "model.pkl")

    # What score.py's run(input_df) takes; the names are checked against its parameters.
    sample = test_rows.head(2)
    generate_schema(run, {"input_df": SampleDefinition(DataTypes.PANDAS, sample)}, filepath=str(folder / "schema.json"))
    body = {"input_df": sample.to_dict(orient="records")}
    (folder / "sample.json").write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
