"""Compiled programs: what is read in their text, on programs small enough to sum up."""

import json
import subprocess
import sys
import types

import pytest

from experiments.benchmarks import __main__ as command
from experiments.benchmarks import chips, compiled, hlo, kinds, page, programs, traffic
from jsnnq.errors import InputError
from jsnnq.networks.sew import sew_resnet
from jsnnq.study import build

STEP = "sew_resnet8/float/step/cifar/256/1"
CASE = programs.Case("sew_resnet8")


def moved(text):
    """Bytes read and written by each instruction that moves some."""
    found = traffic.moved(hlo.read(text))
    return {x.instruction.name: (x.read, x.written) for x in found if x.total}


def kind(line, fused=""):
    """The kind of the root of a program of one line."""
    text = f"{fused}\nENTRY %main (x: f32[8]) -> f32[8] {{\n{line}\n}}\n"
    module = hlo.read(text)
    return kinds.kind(module, module.computations["main"].root)


# Arrays


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("f32[8,4]{1,0}", 8 * 4 * 4),
        ("bf16[8,4]", 8 * 4 * 2),
        ("pred[7]{0}", 7),
        ("s4[6]{0}", 3),
        ("f8e4m3fn[6]{0}", 6),
        ("f32[]", 4),
        ("token[]", 0),
        # Rows of 3 take 128 places, and 9 rows those of 16.
        ("f32[9,3]{1,0:T(8,128)}", 16 * 128 * 4),
        # The other axis is the fast one: it has 9 of 128, and 3 of 8 the slow one.
        ("f32[9,3]{0,1:T(8,128)}", 8 * 128 * 4),
        ("bf16[2,8,128]{2,1,0:T(8,128)(2,1)}", 2 * 8 * 128 * 2),
        ("f32[5]{0:T(1024)}", 1024 * 4),
    ],
)
def test_an_array_takes_whole_tiles(text, size):
    (array,) = hlo.arrays(text)
    assert array.size == size
    assert array.on_device


def test_an_array_in_vector_memory_is_told_apart():
    found = hlo.arrays(
        "(f32[8]{0:T(128)S(1)}, /*index=1*/f32[8]{0:T(128)}, u32[]{:S(2)})"
    )
    assert [array.on_device for array in found] == [False, True, False]
    assert [array.dims for array in found] == [(8,), (8,), ()]


# Traffic


def test_what_is_fused_moves_what_goes_in_and_out():
    text = """
%fused (a: f32[8,4], b: f32[4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = f32[4]{0} parameter(1)
  %wide = f32[8,4]{1,0} broadcast(%b), dimensions={1}
  ROOT %sum = f32[8,4]{1,0} add(%a, %wide)
}

ENTRY %main (x: f32[8,4], y: f32[4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %same = f32[8,4]{1,0} bitcast(%x)
  ROOT %out = f32[8,4]{1,0} fusion(%same, %y), kind=kLoop, calls=%fused
}
"""
    assert moved(text) == {"out": (8 * 4 * 4 + 4 * 4, 8 * 4 * 4)}


def test_what_lies_in_vector_memory_is_free():
    text = """
ENTRY %main (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0:T(1024)} parameter(0)
  %begin = (f32[1024]{0:T(1024)S(1)}, f32[1024]{0:T(1024)}, u32[]{:S(2)}) copy-start(%x)
  %here = f32[1024]{0:T(1024)S(1)} copy-done(%begin)
  %twice = f32[1024]{0:T(1024)S(1)} add(%here, %here)
  ROOT %out = f32[1024]{0:T(1024)} add(%twice, %x)
}
"""
    assert moved(text) == {"begin": (4096, 0), "out": (4096, 4096)}


def test_of_what_is_sliced_the_slices_are_read():
    text = """
%fused (data: u8[100,4], at: s32[]) -> f32[2,4] {
  %data = u8[100,4]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  %flat = u8[100,4]{1,0} bitcast(%data)
  %part = u8[2,4]{1,0} dynamic-slice(%flat, %at, %zero), dynamic_slice_sizes={2,4}
  ROOT %out = f32[2,4]{1,0} convert(%part)
}

ENTRY %main (data: u8[100,4], at: s32[]) -> f32[2,4] {
  %data = u8[100,4]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %first = u8[10,4]{1,0} slice(%data), slice={[0:10], [0:4]}
  ROOT %out = f32[2,4]{1,0} fusion(%data, %at), kind=kLoop, calls=%fused
}
"""
    assert moved(text) == {"first": (40, 40), "out": (8 + 4, 2 * 4 * 4)}


def test_of_what_is_updated_in_place_the_update_is_written():
    text = """
%fused (all: f32[100,4], new: f32[1,4], at: s32[]) -> (f32[100,4], f32[4]) {
  %all = f32[100,4]{1,0} parameter(0)
  %new = f32[1,4]{1,0} parameter(1)
  %at = s32[] parameter(2)
  %zero = s32[] constant(0)
  %after = f32[100,4]{1,0} dynamic-update-slice(%all, %new, %at, %zero)
  %row = f32[4]{0} bitcast(%new)
  ROOT %both = (f32[100,4]{1,0}, f32[4]{0}) tuple(%after, %row)
}

ENTRY %main (all: f32[100,4], new: f32[1,4], at: s32[]) -> (f32[100,4], f32[4]) {
  %all = f32[100,4]{1,0} parameter(0)
  %new = f32[1,4]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %out = (f32[100,4]{1,0}, f32[4]{0}) fusion(%all, %new, %at), calls=%fused
}
"""
    assert moved(text) == {"out": (16 + 4, 16 + 16)}


LOOP = """
%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%state), index=1
  %next = f32[8]{0} negate(%x)
  %n = s32[] get-tuple-element(%state), index=0
  ROOT %after = (s32[], f32[8]{0}) tuple(%n, %next)
}

%condition (state: (s32[], f32[8])) -> pred[] {
  %state = (s32[], f32[8]{0}) parameter(0)
  %n = s32[] get-tuple-element(%state), index=0
  %end = s32[] constant(END)
  ROOT %goes-on = pred[] compare(%n, %end), direction=LT
}

ENTRY %main (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[], f32[8]{0}) parameter(0)
  ROOT %out = (s32[], f32[8]{0}) while(%state), condition=%condition, body=%body TURNS
}
"""


def test_a_loop_moves_as_often_as_it_turns():
    known = ', backend_config={"known_trip_count":{"n":"5"},"other":1}'
    text = LOOP.replace(" TURNS", known).replace("END", "7")
    assert moved(text) == {"next": (5 * 32, 5 * 32)}
    # A TPU's compiler does not say it, but it stands in the condition.
    assert moved(LOOP.replace(" TURNS", "").replace("END", "3")) == {"next": (96, 96)}
    once = LOOP.replace(" TURNS", "").replace("constant(END)", "negate(%n)")
    assert moved(once) == {"next": (32, 32)}


def test_of_branches_the_largest_counts():
    text = """
%small (x: f32[8]) -> f32[8] {
  ROOT %same = f32[8]{0} parameter(0)
}

%large (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %other = f32[8]{0} negate(%x)
}

ENTRY %main (which: s32[], x: f32[8]) -> f32[8] {
  %which = s32[] parameter(0)
  %x = f32[8]{0} parameter(1)
  ROOT %o = f32[8]{0} conditional(%which, %x, %x), branch_computations={%small, %large}
}
"""
    assert moved(text) == {"other": (32, 32)}


def test_what_devices_exchange_is_read_and_written_once():
    text = """
ENTRY %main (x: f32[8], y: f32[4]) -> f32[32] {
  %x = f32[8]{0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %sums = (f32[8]{0}, f32[4]{0}) all-reduce-start(%x, %y), to_apply=%add
  %summed = (f32[8]{0}, f32[4]{0}) all-reduce-done(%sums)
  %all = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), dimensions={0}
  ROOT %gathered = f32[32]{0} all-gather-done(%all)
}
"""
    assert moved(text) == {"sums": (48, 48), "all": (32, 128)}


# Kinds

IN = "jit(next_step)/jvp(SEWResNet)/layer1_0/layer1_0._fire"
BACK = "jit(next_step)/transpose(jvp(SEWResNet))/layer1_0/layer1_0._fire"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{IN}/bn1/mul", "normalisation forward"),
        (f"{BACK}/downsample_bn/reduce_sum", "normalisation backward"),
        (f"{IN}/sn2/closed_call/ge", "neurons forward"),
        (f"{BACK}/sn2/concatenate", "neurons backward"),
        ("jit(next_step)/jvp(SEWResNet)/sn1/add", "neurons forward"),
        (f"{IN}/closed_call/mul", "normalisation and neurons forward"),
        (f"{BACK}/custom_vjp_call/mul", "normalisation and neurons backward"),
        (f"{BACK}/add_any", "joins backward"),
        ("jit(next_step)/jvp(SEWResNet)/layer1_0/add", "joins forward"),
        ("jit(next_step)/transpose(jvp(SEWResNet))/reduce_sum", "encoding backward"),
        ("jit(next_step)/transpose(jvp(SEWResNet))/add_any", "joins backward"),
        (f"{IN}/conv1/round", "beside convolutions forward"),
        ("jit(next_step)/optimizer/mul", "optimizer"),
        ("jit(next_step)/data/vmap()/gather", "data"),
        ("jit(next_step)/jvp(SEWResNet)/SEWResNet.classify/fc/add", "classifier"),
        ("jit(next_step)/jvp(BinaryResNet)/layer1_0/act2/sign", "activations forward"),
        ("jit(count)/SEWResNet/layer1_0/layer1_0._fire/sn1/ge", "neurons forward"),
        ("jit(count)/reduce_sum", "counts"),
        (f"{IN}/bn1/mul;{BACK}/sn1/add", "normalisation forward"),
        ("", "other"),
    ],
)
def test_a_kind_is_read_in_the_path(path, expected):
    line = f'  ROOT %one = f32[8]{{0}} multiply(%x, %x), metadata={{op_name="{path}"}}'
    assert kind(line) == expected


def test_every_layer_of_every_network_has_a_kind():
    nets = [build.float_network(programs.config(CASE).network, 10)]
    nets.append(sew_resnet("sew_resnet50", classes=10))
    for name in ("resnet18", "resnet50"):
        row = programs.config(programs.Case(name))
        nets.append(build.float_network(row.network, 10))
    for net in nets:
        for path in net.layers_in_order():
            named = f'metadata={{op_name="jit(f)/{path}/add"}}'
            assert kind(f"  ROOT %x = f32[8]{{0}} add(%y), {named}") != "other", path


PRODUCT = """
%fused (x: f32[9]) -> f32[9] {{
  %x = bf16[{x}]{{3,2,1,0}} parameter(0)
  %w = bf16[{w}]{{3,2,1,0}} parameter(1)
  ROOT %y = bf16[{y}]{{3,2,1,0}} convolution(%x, %w), window={{size={size}}}, \
{labels}, metadata={{op_name="{path}/conv1/conv_general_dilated"}}
}}
"""
FUSION = """\
  ROOT %one = f32[8]{{0}} fusion(%x, %w), kind=kOutput, calls=%fused, \
metadata={{op_name="{}/bn1/add"}}"""


@pytest.mark.parametrize(
    ("path", "shapes", "expected"),
    [
        (
            IN,
            dict(x="64,8,8,16", w="3,3,16,16", y="64,8,8,16", size="3x3 pad=1_1x1_1",
                 labels="dim_labels=b01f_01io->b01f"),
            "convolution forward",
        ),
        (
            BACK,
            dict(x="64,8,8,16", w="3,3,16,16", y="64,8,8,16", size="3x3 pad=1_1x1_1",
                 labels="dim_labels=b01f_01oi->b01f"),
            "convolution gradient of input",
        ),
        (
            BACK,
            dict(x="64,8,8,16", w="64,8,8,16", y="3,3,16,16", size="8x8 pad=1_1x1_1",
                 labels="dim_labels=f01b_i01o->01bf"),
            "convolution gradient of kernel",
        ),
    ],
)  # fmt: skip
def test_a_product_decides_over_what_is_fused_with_it(path, shapes, expected):
    fused = PRODUCT.format(path=path, **shapes)
    assert kind(FUSION.format(path), fused) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("__cudnn$convForward", "convolution forward"),
        ("__cudnn$convBackwardInput", "convolution gradient of input"),
        ("__cudnn$convBackwardFilter", "convolution gradient of kernel"),
    ],
)
def test_a_call_of_cudnn_says_what_it_is(target, expected):
    made = "(bf16[8]{0}, u8[4]{0}) custom-call(%x, %w)"
    line = f'  ROOT %one = {made}, custom_call_target="{target}"'
    assert kind(line) == expected


def test_copies_and_what_only_copies_are_relayouts():
    named = f'metadata={{op_name="{BACK}/bn1/mul"}}'
    assert kind(f"  ROOT %one = f32[8]{{0}} copy(%x), {named}") == "relayouts"
    fused = """
%fused (x: f32[8,4]) -> f32[4,8] {
  %x = f32[8,4]{1,0} parameter(0)
  %flat = f32[32]{0} bitcast(%x)
  ROOT %turned = f32[4,8]{1,0} transpose(%flat), dimensions={1,0}
}
"""
    line = (
        f"  ROOT %one = f32[4,8]{{1,0}} fusion(%x), kind=kLoop, calls=%fused, {named}"
    )
    assert kind(line, fused) == "relayouts"
    begun = "(f32[8]{0:S(1)}, f32[8]{0}, u32[]) copy-start(%x)"
    assert kind(f"  ROOT %one = {begun}") == "to and from vector memory"
    assert kind("  ROOT %one = f32[8]{0} all-reduce(%x)") == "between devices"


def test_a_fusion_without_a_path_has_that_of_most_in_it():
    fused = f"""
%fused (x: f32[8]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  %a = f32[8]{{0}} negate(%x), metadata={{op_name="{BACK}/bn1/neg"}}
  %b = f32[8]{{0}} negate(%a), metadata={{op_name="{BACK}/sn1/neg"}}
  %c = f32[8]{{0}} negate(%b), metadata={{op_name="{BACK}/sn1/neg"}}
  ROOT %d = f32[8]{{0}} maximum(%c, %a)
}}
"""
    line = "  ROOT %one = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused"
    assert kind(line, fused) == "neurons backward"


# Which programs


def test_the_usual_programs_differ_in_one_thing():
    names = [str(case) for case in programs.usual()]
    assert STEP in names
    assert "sew_resnet18/lqnet-membranes/step/cifar/256/1" in names
    assert "resnet50/stompp/step/cifar/256/1" in names
    assert "sew_resnet8/float/step/imagenet/256/1" in names
    assert "sew_resnet8/mint/step/cifar/128/1" not in names
    assert len(set(names)) == len(names) < len(programs.every()) / 5


def test_programs_are_chosen_by_their_names():
    found = programs.chosen([r"resnet18/.*/step/cifar/256/4"])
    assert {case.method for case in found} == {"float", "stompp", "ste"}
    assert {case.devices for case in found} == {4}
    assert programs.chosen([]) == programs.usual()
    with pytest.raises(InputError, match="no program is called 'r18'"):
        programs.chosen(["r18"])
    with pytest.raises(InputError, match="no regular expression"):
        programs.chosen(["("])


def test_images_that_do_not_fit_on_the_device_come_from_the_host():
    found = [case for case in programs.every() if case.stem == "imagenet"]
    assert {case.what for case in found} == {"step", "evaluation"}
    # And rows together are those of one device.
    found = [case for case in programs.every() if case.what == "together"]
    assert {(case.stem, case.devices) for case in found} == {("cifar", 1)}


def test_an_epoch_has_as_many_steps_as_whole_batches():
    assert CASE._replace(what="epoch", batch=128).steps == 390
    assert CASE.steps == 1


# Chips


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs libtpu.*'\.\[tpu\]'"):
        chips.check_compilable("v5e")
    with pytest.raises(InputError, match=r"jax-cuda13-plugin.*'\.\[cuda\]'"):
        chips.check_compilable("h200")
    with pytest.raises(InputError, match="unknown chip 'v2'"):
        chips.check_compilable("v2")


def test_the_description_of_a_chip_has_its_facts():
    chip = chips.CHIPS["h200"]
    text = (page.FOLDER / chip.target).read_text(encoding="utf-8")
    assert f"device_memory_size: {chip.memory}" in text
    assert f"memory_bandwidth: {chip.bandwidth:.0f}" in text


# Rows


class Compiled:
    """A program as XLA describes it."""

    def cost_analysis(self):
        return {"flops": 197e9, "bytes accessed": 5e9}

    def memory_analysis(self):
        names = ("temp", "argument", "output", "alias")
        sizes = {f"{name}_size_in_bytes": 2**30 for name in names}
        return types.SimpleNamespace(**sizes)


TEXT = f"""
ENTRY %main (x: f32[1000]) -> f32[1000] {{
  %x = f32[1000]{{0}} parameter(0)
  ROOT %out = f32[1000]{{0}} negate(%x), metadata={{op_name="{IN}/bn1/neg"}}
}}
"""


def test_a_row_has_both_bounds():
    row = compiled.row_of(chips.CHIPS["v5e"], CASE, TEXT, Compiled())
    assert row["bytes"] == 8000
    assert row["kinds"] == {"normalisation forward": 8000}
    # A thousandth of the rate, and 8000 of 819e9 bytes a second, by 256 images.
    assert row["bounds"]["matrix"] == pytest.approx(256 * 1000)
    assert row["bounds"]["memory"] == pytest.approx(256 * 819e9 / 8000)
    assert "reason" not in row


def test_a_row_of_an_epoch_is_that_of_its_steps():
    case = CASE._replace(what="epoch", batch=25_000)
    text = LOOP.replace(" TURNS", "").replace("END", "2")
    row = compiled.row_of(chips.CHIPS["v5e"], case, text, Compiled())
    assert case.steps == 2
    assert row["bytes"] == 64


def test_rows_together_are_counted_one_by_one():
    case = CASE._replace(what="together")
    alone, row = (
        compiled.row_of(chips.CHIPS["v5e"], one, TEXT, Compiled())
        for one in (CASE, case)
    )
    for name in ("flops", "bytes_xla", "bytes"):
        assert case.rows * row[name] == alone[name]
    assert row["bounds"]["matrix"] == case.rows * alone["bounds"]["matrix"]
    assert row["temporary"] == alone["temporary"]


def test_what_does_not_fit_says_so():
    small = chips.CHIPS["v5e"]._replace(memory=1.5 * 2**30)
    row = compiled.row_of(small, CASE, TEXT, Compiled())
    assert row["reason"] == "it needs 2.1 GB of memory, and TPU v5e has 1.6"


def test_why_a_program_cannot_be_compiled_is_one_line():
    text = "RESOURCE_EXHAUSTED: XLA\n\nRan out of memory in memory space hbm. Used 20G"
    assert compiled.reason(RuntimeError(text)).startswith("Ran out of memory")
    assert compiled.reason(ValueError("no\nmore")) == "ValueError: no"


@pytest.fixture
def compiler(monkeypatch):
    """Programs are compiled by nobody; says which were asked for."""
    asked = []

    def run(command, **_):
        options = json.loads(command[-1])
        asked.append(str(programs.Case(*options["case"])))
        row = compiled.row_of(chips.CHIPS["v5e"], CASE, TEXT, Compiled())
        with open(options["answer"], "w") as file:
            json.dump(row | {"compile_cpu_s": 1.0}, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(compiled.subprocess, "run", run)
    monkeypatch.setattr(chips, "check_compilable", lambda name: chips.CHIPS[name])
    monkeypatch.setattr(chips, "versions", lambda chip: {"libtpu": "1"})
    monkeypatch.setattr(compiled, "installed_commit", lambda: "abc")
    return asked


def test_rows_of_the_same_source_and_compiler_are_kept(compiler, monkeypatch, tmp_path):
    cases, path = programs.usual()[:2], tmp_path / "compiled_v5e.json"
    compiled.compile_for("v5e", cases[:1], path)
    found = compiled.compile_for("v5e", cases, path)
    assert compiler == [str(case) for case in cases]
    assert json.loads(path.read_text()) == found
    assert [row["name"] for row in found["rows"]] == compiler
    monkeypatch.setattr(chips, "versions", lambda chip: {"libtpu": "2"})
    compiled.compile_for("v5e", cases[:1], path)
    assert len(compiler) == 3
    monkeypatch.setattr(compiled, "installed_commit", lambda: "abc-dirty")
    for _ in range(2):
        found = compiled.compile_for("v5e", cases[:1], path)
    assert len(compiler) == 5
    assert len(found["rows"]) == 2


def test_a_process_that_ends_is_a_row_and_tried_again(compiler, monkeypatch, tmp_path):
    def run(command, stderr, **_):
        stderr.write(b"a warning\nfatal: out of registers\n")
        return subprocess.CompletedProcess(command, -6)

    path = tmp_path / "compiled_v5e.json"
    with monkeypatch.context() as patch:
        patch.setattr(compiled.subprocess, "run", run)
        found = compiled.compile_for("v5e", [CASE], path)
    (row,) = found["rows"]
    assert row["reason"] == "its process ended with -6: fatal: out of registers"
    assert "bytes" in compiled.compile_for("v5e", [CASE], path)["rows"][0]


def test_the_command_compiles_what_it_is_told(compiler, monkeypatch, tmp_path, capsys):
    out = tmp_path / "v5e.json"
    typed = ["benchmarks", "--compile-for", "v5e", "--only", STEP, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", typed)
    command.main()
    assert compiler == [STEP]
    told = capsys.readouterr()
    assert f"| {STEP} | 197 | 5.0 | 0.00 | 1.07 | 1 | 256,000 |" in told.out
    assert f"1/1 {STEP}: compiled" in told.err
    monkeypatch.setattr(sys, "argv", [*typed, "--list"])
    command.main()
    assert capsys.readouterr().out == f"{STEP}\n"
    monkeypatch.setattr(sys, "argv", [*typed, "--only", "nothing"])
    with pytest.raises(SystemExit, match="no program is called 'nothing'"):
        command.main()


def test_the_page_has_a_table_of_kinds_and_of_what_is_of_no_use(tmp_path):
    same = dict(dtype="bfloat16", versions={"libtpu": "1"}, commit="0123456789abc")
    sizes = {"relayouts": 60e9, "neurons forward": 38e9, "data": 1e9, "other": 1e9}
    good = dict(
        name=STEP, flops=2e12, bytes_xla=None, bytes=100e9, kinds=sizes,
        temporary=3e9, compile_cpu_s=62.4, bounds={"matrix": 1234.5, "memory": 99.4},
    )  # fmt: skip
    bad = dict(name="sew_resnet50/x", reason="Ran out of memory")
    rows = [same | good, same | bad]
    (tmp_path / "compiled_v5e.json").write_text(
        json.dumps({"chip": "v5e", "rows": rows})
    )
    text = page.page(tmp_path)
    assert "## TPU v5e" in text
    assert f"| {STEP} | 2000 |  | 100.00 | 3.00 | 62 | 1,234 | 99 |" in text
    assert "| GB moved | relayouts | neurons forward | the rest |" in text
    assert f"| {STEP} | 60.00 | 38.00 | 2.00 |" in text
    assert "Of no use: sew_resnet50/x (Ran out of memory)" in text


def test_operations_are_those_of_the_layers():
    """By hand: 2 for each connection in each of three passes, but of images in two."""
    case = CASE._replace(batch=4)
    connections = {
        "conv1": 32 * 32 * 9 * 3 * 64,
        "layer1": 2 * 4 * 32 * 32 * 9 * 64 * 64,
        "layer2": 4 * 16 * 16 * (9 * 64 * 128 + 9 * 128 * 128 + 64 * 128),
        "layer3": 4 * 8 * 8 * (9 * 128 * 256 + 9 * 256 * 256 + 128 * 256),
    }
    all_of_them = 3 * sum(connections.values()) - connections["conv1"]
    found = compiled._flops(case)
    # Products with padding are not counted, and neurons and normalisation are.
    assert found == pytest.approx(2 * 4 * all_of_them, rel=0.1)
    assert compiled._flops(case._replace(devices=4)) == found / 4
