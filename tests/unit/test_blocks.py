import importlib.util
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import netpress  # noqa: E402
from netpress.calibration.block_chain import find_chain  # noqa: E402
from netpress.errors import InvalidConfig, InvalidModel  # noqa: E402

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x, scale=1.0, *, extra=None):
        return (x + scale * self.down(torch.relu(self.up(self.norm(x)))), "beside")


class Network(nn.Module):
    """Blocks after an embedding; what they get beside the hidden tensor differs from block to block."""

    def __init__(self, blocks=3, width=16):
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 12)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for place, block in enumerate(self.blocks):
            x, _ = block(x, 1.0 / (1 + place), extra=tokens)
        return self.head(x)


def tokens(count=3):
    return [torch.randint(0, 20, (4, 10)) for _ in range(count)]


def weights_of(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def dequantised(module, quantized):
    state = dict(module.state_dict())
    state.update({name: torch.from_numpy(tensor.values()) for name, tensor in quantized.items()})
    return state


def whole_network(module, batches, qp):
    """The same work as block by block, for all of the network at a time."""
    calibration = netpress.calibrate(module, batches, measure=False)
    return netpress.quantize_model(module, calibration, qp=qp, row_damping=None)


class TestQuantizeBlocks:
    def test_steps_are_those_of_the_whole_network(self):
        module, batches = Network(), tokens()
        whole = whole_network(module, batches, qp=-16)
        found = netpress.quantize_blocks(module, batches, qp=-16)
        assert set(found) == set(whole)
        assert {name: tensor.qp for name, tensor in found.items()} == {name: t.qp for name, t in whole.items()}
        # What has no inputs is quantised the same way.
        assert np.array_equal(found["embedding.weight"].levels, whole["embedding.weight"].levels)

    def test_not_sequential_it_is_the_quantisation_of_the_whole_network(self):
        module, batches = Network(), tokens()
        whole = whole_network(module, batches, qp=-6)
        found = netpress.quantize_blocks(module, batches, qp=-6, sensitivity_batches=None, sequential=False)
        assert set(found) == set(whole)
        for name, tensor in whole.items():
            # Sums in another order may differ in the last bits, and one decision in a thousand with them.
            assert np.mean(tensor.levels != found[name].levels) < 0.01

    def test_weights_without_use_are_named_and_quantised_without_data(self):
        module, batches = Network(), tokens(1)
        module.unused = nn.Linear(3, 4)
        module.blocks[1].unused = nn.Linear(4, 3)
        with pytest.warns(netpress.NetpressWarning, match=r"blocks\.1\.unused\.weight, unused\.weight"):
            found = netpress.quantize_blocks(module, batches, qp=-16)
        own = module.unused.weight.detach().numpy()
        assert np.abs(found["unused.weight"].values() - own).max() < 2 ** (-16 / 4 + 1)

    def test_later_blocks_see_what_quantised_ones_pass_on(self):
        module, batches = Network(), tokens(8)
        found = netpress.quantize_blocks(module, batches, qp=-2)
        copy = Network()
        copy.load_state_dict(dequantised(module, {n: t for n, t in found.items() if not n.startswith("blocks.2")}))
        seen = netpress.calibrate(copy, batches, sensitivities=False)
        moments = seen.layers["blocks.2.up.weight"]
        own = netpress.Calibration({"blocks.2.up.weight": moments}, 1)
        qp = found["blocks.2.up.weight"].qp
        again = netpress.quantize_model(module.state_dict(), own, qp=qp)["blocks.2.up.weight"]
        assert np.array_equal(again.levels, found["blocks.2.up.weight"].levels)

    def test_the_module_is_left_as_it_was(self):
        module = Network().train()
        parameters, before = dict(module.named_parameters()), weights_of(module)
        netpress.quantize_blocks(module, tokens(1), qp=-12)
        assert module.training
        assert all(parameters[name] is p for name, p in module.named_parameters())
        assert all(torch.equal(before[name], p) for name, p in module.named_parameters())
        assert all("forward" not in vars(block) for block in module.blocks)

    def test_a_file_does_as_well_as_a_module_with_its_weights(self, tmp_path):
        module, batches = Network(), tokens()
        expected = netpress.quantize_blocks(module, batches, qp=-12)
        shards = {"first.safetensors": {}, "second.safetensors": {}}
        for place, (name, value) in enumerate(module.state_dict().items()):
            shards[sorted(shards)[place % 2]][name] = value
        index = {name: file for file, tensors in shards.items() for name in tensors}
        from safetensors.torch import save_file

        for file, tensors in shards.items():
            save_file(tensors, tmp_path / file)
        path = tmp_path / "model.safetensors.index.json"
        path.write_text('{"weight_map": ' + str(index).replace("'", '"') + "}")
        with netpress.empty_parameters():
            empty = Network()
        assert all(p.is_meta for p in empty.parameters())
        folder = tmp_path / "levels"
        folder.mkdir()
        found = netpress.quantize_blocks(empty, batches, qp=-12, source=path, folder=folder)
        assert all(p.is_meta for p in empty.parameters())
        assert set(found) == set(expected)
        for name, tensor in found.items():
            assert isinstance(tensor.levels, np.memmap)
            assert np.array_equal(tensor.levels, expected[name].levels)
            assert tensor.qp == expected[name].qp
        from_files = netpress.encode(path, quantized=found, qp=-12)
        restored = netpress.decode(from_files)
        for name, tensor in expected.items():
            assert np.array_equal(restored[name], tensor.values())

    def test_without_sensitivities_all_steps_are_the_same(self):
        found = netpress.quantize_blocks(Network(), tokens(1), qp=-9, sensitivity_batches=0)
        assert {tensor.qp for tensor in found.values()} == {-9}

    def test_progress(self):
        seen = []
        netpress.quantize_blocks(Network(), tokens(1), qp=-9, progress=lambda *step: seen.append(step))
        assert [done for done, _, _ in seen] == list(range(1, 10))
        assert {total for _, total, _ in seen} == {9}
        assert [word for _, _, word in seen][::3] == [
            "forward through blocks",
            "backward through blocks",
            "quantising blocks",
        ]


class TestErrors:
    def test_no_batches(self):
        with pytest.raises(InvalidConfig, match="no calibration batches"):
            netpress.quantize_blocks(Network(), [], qp=-9)

    def test_an_exponent_out_of_range(self):
        with pytest.raises(InvalidConfig, match="sensitivity_exponent"):
            netpress.quantize_blocks(Network(), tokens(1), qp=-9, sensitivity_exponent=3.0)

    def test_no_blocks(self):
        with pytest.raises(InvalidConfig, match="no list of blocks"):
            netpress.quantize_blocks(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), [torch.zeros(1, 3)], qp=-9)

    @pytest.mark.parametrize(("name", "message"), [("nothing", "has no part"), ("head", "not a list of blocks")])
    def test_a_wrong_name(self, name, message):
        with pytest.raises(InvalidConfig, match=message):
            netpress.quantize_blocks(Network(), tokens(1), qp=-9, blocks=name)

    def test_unknown_outputs(self):
        with pytest.raises(InvalidConfig, match="'logits' or 'values'"):
            netpress.quantize_blocks(Network(), tokens(1), qp=-9, outputs="words")

    def test_a_source_without_a_parameter(self):
        state = Network().state_dict()
        del state["blocks.1.down.bias"]
        with pytest.raises(InvalidModel, match=r"blocks\.1\.down\.bias"):
            netpress.quantize_blocks(Network(), tokens(1), qp=-9, source=state)

    def test_a_source_of_another_shape(self):
        with pytest.raises(InvalidModel, match="has shape"):
            netpress.quantize_blocks(Network(), tokens(1), qp=-9, source=Network(width=8).state_dict())

    def test_inputs_that_are_not_finite(self):
        module = Network()
        with torch.no_grad():
            module.embedding.weight[0, 0] = float("inf")
        with pytest.raises(InvalidModel, match=r"blocks\.0\.up"):
            netpress.quantize_blocks(module, [torch.zeros(2, 3, dtype=torch.long)], qp=-9)
        assert all("forward" not in vars(block) for block in module.blocks)

    def test_a_network_that_leaves_blocks_out(self):
        module = Network()
        module.blocks.append(Block(16))
        module.forward = lambda x: module.head(module.blocks[0](x)[0])
        with pytest.raises(InvalidModel, match="1 of its 4 blocks"):
            netpress.quantize_blocks(module, [torch.zeros(2, 16)], qp=-9)

    def test_blocks_in_another_order(self):
        module = Network()
        module.forward = lambda x: module.blocks[0](module.blocks[1](x)[0])[0]
        with pytest.raises(InvalidModel, match="one after the other"):
            netpress.quantize_blocks(module, [torch.zeros(2, 16)], qp=-9)


class TestFindChain:
    def test_the_longest_list_of_one_class(self):
        module = Network()
        module.others = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)])
        assert find_chain(module)[0] == "blocks"
        assert find_chain(module, "others") == ("others", module.others)


@needs_transformers
class TestTransformers:
    @pytest.fixture(autouse=True)
    def quiet(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield

    def llama(self, **options):
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(vocab_size=40, num_key_value_heads=2, max_position_embeddings=32, **sizes, **options)
        return LlamaForCausalLM(config).eval()

    def bert(self):
        from transformers import BertConfig, BertModel

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        return BertModel(BertConfig(vocab_size=40, max_position_embeddings=32, **sizes)).eval()

    def check(self, module, batches, outputs, forward, tmp_path):
        calibration = netpress.calibrate(module, batches, outputs=outputs, forward=forward, measure=False)
        whole = netpress.quantize_model(module, calibration, qp=-20, row_damping=None)
        found = netpress.quantize_blocks(module, batches, qp=-20, outputs=outputs)
        assert set(found) == set(whole)
        assert {name: tensor.qp for name, tensor in found.items()} == {name: t.qp for name, t in whole.items()}
        from safetensors.torch import save_file

        path = tmp_path / "model.safetensors"
        save_file(module.state_dict(), path)
        with netpress.empty_parameters():
            empty = type(module)(module.config).eval()
        again = netpress.quantize_blocks(empty, batches, qp=-20, outputs=outputs, source=path)
        assert all(np.array_equal(again[name].levels, found[name].levels) for name in found)

    def test_a_decoder(self, tmp_path):
        batches = [{"input_ids": torch.randint(0, 40, (3, 12))} for _ in range(2)]
        self.check(self.llama(), batches, "logits", lambda m, b: m(**b).logits, tmp_path)

    def test_an_encoder_with_padding(self, tmp_path):
        mask = torch.ones(3, 12, dtype=torch.long)
        mask[0, 5:] = 0
        batches = [{"input_ids": torch.randint(0, 40, (3, 12)), "attention_mask": mask} for _ in range(2)]
        self.check(self.bert(), batches, "values", lambda m, b: m(**b).last_hidden_state, tmp_path)

    def test_a_decoder_whose_head_is_its_embedding(self):
        module = self.llama(tie_word_embeddings=True)
        found = netpress.quantize_blocks(module, [{"input_ids": torch.randint(0, 40, (3, 12))}], qp=-20)
        assert np.array_equal(found["lm_head.weight"].levels, found["model.embed_tokens.weight"].levels)
        assert module.config.use_cache
