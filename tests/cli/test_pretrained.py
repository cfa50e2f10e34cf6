"""The pretrained model of scripts/fetch_smollm2.sh, where it was fetched: its loss is transformers'."""

import json
import unittest

import h5py
from cli_test import SOURCE, CliTest

MODEL = SOURCE / "results/models/smollm2/model"
EXPECTED = SOURCE / "tests/data/smollm2.json"


class Pretrained(CliTest):
    @unittest.skipUnless((MODEL / "config.json").is_file(), f"{MODEL} is not there: scripts/fetch_smollm2.sh makes it")
    def test_loss_is_that_of_transformers(self):
        expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
        count = len(expected["input_ids"]) - 1
        outcome = self.call("lm", f"inputs.model={MODEL}", f"inputs.ids={EXPECTED}", f"inputs.seq_len={count}",
                            "inputs.replaced=[0]", "-o", "out.h5")
        self.assert_outcome(outcome, 0)
        with h5py.File(self.path("out.h5")) as file:
            loss = float(file["trials"]["cross_entropy"][0])
        self.assertAlmostEqual(loss, expected["cross_entropy"], delta=1e-4)


if __name__ == "__main__":
    unittest.main()
