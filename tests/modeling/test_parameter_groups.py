"""Which parameters decay."""

from __future__ import annotations

import torch

from ift_lightning.modeling.optimization import parameter_groups


def test_matrices_decay_whole_or_cut() -> None:
    """ZeRO-3 leaves an empty, flat tensor in place of each parameter, which keeps its shape."""
    model = torch.nn.Linear(3, 2)
    weight, bias = model.weight, model.bias
    expected = [([weight], 0.1), ([bias], 0.0)]
    for cut in (False, True):
        if cut:
            for parameter in (weight, bias):
                parameter.ds_shape = parameter.shape  # type: ignore[attr-defined]
                parameter.data = torch.empty(0)
        groups = parameter_groups(model, 0.1)
        assert [(len(item["params"]), item["weight_decay"]) for item in groups] == [
            (len(parameters), decay) for parameters, decay in expected
        ]
        assert groups[0]["params"][0] is weight
        assert groups[1]["params"][0] is bias
