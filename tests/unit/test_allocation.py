import numpy as np
import pytest

import netpress
from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.allocation import qps_by_size
from netpress.quantize.step_size import qp_range, step_size


def weight(name, *shape, kind=ParameterKind.WEIGHT):
    def never():
        raise AssertionError("values must not be loaded")

    return Parameter(name, never, kind, 0, shape=shape, is_integer=False)


class TestQpsBySize:
    def test_steps_follow_the_root_of_the_size(self):
        model = [weight("small", 8, 32), weight("large", 64, 64), weight("bias", 64, kind=ParameterKind.BIAS)]
        qps = qps_by_size(model, qp=-20, qp_density=2)
        assert set(qps) == {"small", "large"}
        assert step_size(qps["large"], 2) / step_size(qps["small"], 2) == pytest.approx(4, rel=0.2)
        mean = (256 * qps["small"] + 4096 * qps["large"]) / (256 + 4096)
        assert mean == pytest.approx(-20, abs=0.6)

    def test_one_weight_gets_the_qp(self):
        assert qps_by_size([weight("w", 7, 9)], qp=-33, qp_density=3) == {"w": -33}
        assert qps_by_size([weight("w", 7), weight("e", 0, 4)], qp=-33, qp_density=3) == {}

    def test_factors_are_bounded(self):
        many = [weight(str(i), 100, 100) for i in range(400)]
        qps = qps_by_size([*many, weight("huge", 3000, 3000), weight("tiny", 1, 2)], qp=-20, qp_density=2)
        assert step_size(qps["tiny"], 2) == step_size(-20, 2) / 64
        assert qps["huge"] <= -20 + 12

    def test_codable(self):
        model = [weight("small", 1, 2), weight("large", 640, 64)]
        low, high = qp_range(2)
        assert qps_by_size(model, qp=low, qp_density=2)["small"] == low
        assert qps_by_size(model, qp=high, qp_density=2)["large"] == high


class TestEncode:
    def model(self):
        rng = np.random.default_rng(0)
        shapes = {"a": (8, 9), "b": (64, 90), "c": (5,)}
        return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}

    def qps(self, path, **options):
        netpress.save(self.model(), path / "model.nnc", qp=-20, **options)
        with netpress.open(path / "model.nnc") as stream:
            return {tensor.name: tensor.qp for tensor in stream.info().tensors}

    def test_sizes_set_the_qps(self, tmp_path):
        equal = self.qps(tmp_path)
        found = self.qps(tmp_path, allocation="size")
        assert equal == {"a": -20, "b": -20, "c": -75}
        assert found["a"] < -26 < -20 <= found["b"]
        assert found["c"] == -34

    @pytest.mark.filterwarnings("ignore:the steps are too coarse")
    def test_given_qps_stay(self, tmp_path):
        found = self.qps(tmp_path, allocation="size", qp_per_tensor={"a": -11}, nonweight_qp=-60)
        assert (found["a"], found["c"]) == (-11, -60)

    @pytest.mark.parametrize(
        "options",
        [{}, {"qp": -20, "optimize_qp": True}, {"qp": -20, "bit_depth": 8}, {"qp": -20, "preset": "reference"}],
    )
    def test_what_does_not_go_together(self, options):
        with pytest.raises(InvalidConfig, match="allocation 'size'"):
            netpress.EncodeConfig(allocation="size", **options)

    def test_unknown(self):
        with pytest.raises(InvalidConfig, match="allocation is"):
            netpress.EncodeConfig(allocation="depth")
