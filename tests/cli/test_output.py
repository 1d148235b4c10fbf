"""Tables: which columns they have, and what stands in them."""

import pytest

from keras_taps.cli.output import certification_table
from keras_taps.verification.certificate.report import Report

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("stages", "columns"),
    [
        (["ibp", "attack", "crown-ibp", "bab"], ["IBP", "CROWN-IBP", "complete"]),
        (["ibp", "milp"], ["IBP", "complete"]),
        (["ibp", "crown-ibp", "crown"], ["IBP", "CROWN-IBP", "certified"]),
        (["crown"], ["certified"]),
    ],
)
def test_columns_say_what_was_run(stages, columns):
    verdicts = ["certified", "certified", "unknown", "misclassified"]
    records = [
        {"index": index, "verdict": verdict, "stage": stage}
        for index, (verdict, stage) in enumerate(
            zip(verdicts, [stages[0], stages[-1], None, "natural"], strict=True)
        )
    ]
    report = Report({"stages": stages}, records)
    table = certification_table({"net": report}, estimates={"TAPS": {"net": 0.7}})
    names = ["", "natural", "adversarial", *columns, "deployed", "unknown", "TAPS"]
    assert [column.header for column in table.columns] == names
    found = {column.header: list(column.cells) for column in table.columns}
    assert found[""] == ["net"]
    assert found["natural"] == found["adversarial"] == ["75.00"]
    assert found[columns[-1]] == ["50.00"]
    if "IBP" in columns:
        assert found["IBP"] == ["25.00"]
    assert found["unknown"] == ["25.00"]
    assert found["TAPS"] == ["70.00"]
