import io as bytes_io
import os
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_sm as sm
from tinygrad_sm.io import load, save
from tinygrad_sm.state import check_names


def needs(suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    return suffix


@pytest.fixture(params=[".npz", ".safetensors"])
def suffix(request):
    return needs(request.param)


def same(a, b):
    """Compare bits, so that NaN equals NaN and −0 differs from 0."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
VIEWS = st.sampled_from([lambda a: a, lambda a: a.T, lambda a: a[..., ::2] if a.ndim else a, np.asfortranarray])
NAMES = st.text().filter(lambda name: "\0" not in name and (os.sep == "/" or os.sep not in name))


# -- round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
@settings(max_examples=60, deadline=None)
@given(arrays=st.dictionaries(NAMES, ARRAYS, max_size=4), view=VIEWS)
def test_round_trip_keeps_names_dtypes_shapes_and_bits(tmp_path_factory, kind, arrays, view):
    path = tmp_path_factory.mktemp("io") / f"state{needs(kind)}"
    arrays = {name: view(array) for name, array in arrays.items()}
    save(path, arrays)
    loaded = load(path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert same(loaded[name], array), name


@pytest.mark.parametrize(
    "name", ["file", "self", "args", "a/b", "../up", "/root", "a.b.c", "x.npy", "x", "", "π·ℓ", "a b", "allow_pickle"]
)
def test_awkward_names(tmp_path, suffix, name):
    path = tmp_path / f"a{suffix}"
    save(path, {name: np.arange(3), "x": np.zeros(2), "x.npy": np.ones(2)})
    loaded = load(path)
    assert loaded.keys() == {name, "x", "x.npy"}
    wanted = {"x": np.zeros(2), "x.npy": np.ones(2)}.get(name, np.arange(3))
    assert same(loaded[name], wanted)
    assert os.listdir(tmp_path) == [path.name]


def test_tensors_scalars_and_numpy_scalars(tmp_path, suffix):
    path = str(tmp_path / f"a{suffix}")
    values = {"t": sm.Tensor([1.0, 2.0], requires_grad=True), "i": 3, "f": 0.5, "b": True, "n": np.float16(2)}
    save(path, {**values, "u": np.uint64(2**64 - 1)})
    loaded = load(path)
    assert same(loaded["t"], np.array([1, 2], np.float32))
    assert {name: loaded[name].dtype.name for name in "ifbnu"} == {
        "i": np.asarray(3).dtype.name, "f": "float64", "b": "bool", "n": "float16", "u": "uint64",
    }  # fmt: skip
    assert all(loaded[name].shape == () for name in "ifbnu")
    assert loaded["u"] == 2**64 - 1


def test_whatever_has_a_state_dict(tmp_path, suffix):
    class Model:
        def state_dict(self):
            return {"layer.weight": np.eye(2)}

    save(tmp_path / f"a{suffix}", Model())
    assert same(load(tmp_path / f"a{suffix}")["layer.weight"], np.eye(2))


def test_loaded_arrays_can_be_written_to(tmp_path, suffix):
    save(tmp_path / f"a{suffix}", {"w": np.zeros(3)})
    w = load(tmp_path / f"a{suffix}")["w"]
    w += 1
    assert w.tolist() == [1, 1, 1]


def test_foreign_byte_order(tmp_path):
    array = np.array([1.5, -2.0], ">f4")
    save(tmp_path / "a.npz", {"w": array})
    assert same(load(tmp_path / "a.npz")["w"], array)
    save(tmp_path / f"a{needs('.safetensors')}", {"w": array})
    assert same(load(tmp_path / "a.safetensors")["w"], array.astype(np.float32))


def test_npz_is_numpys(tmp_path):
    save(tmp_path / "ours.npz", {"a/b": np.arange(3), "c": np.float32(2)})
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["a/b", "c"]
        assert archive["a/b"].tolist() == [0, 1, 2]
    np.savez_compressed(tmp_path / "theirs.npz", x=np.eye(3))
    assert same(load(tmp_path / "theirs.npz")["x"], np.eye(3))


def test_safetensors_is_readable_by_the_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "a.safetensors", {"w": np.arange(6.0).reshape(2, 3).T})
    assert same(package.load_file(tmp_path / "a.safetensors")["w"], np.arange(6.0).reshape(2, 3).T)


def test_equal_arrays_give_equal_bytes(tmp_path, suffix):
    for name in "ab":
        save(tmp_path / f"{name}{suffix}", {"w": np.arange(5), "v": np.float32(1)})
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_suffix_in_capitals(tmp_path):
    save(tmp_path / "A.NPZ", {"w": 1})
    assert load(tmp_path / "A.NPZ")["w"] == 1


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pt", "a.pkl", "a", "a.npz.gz", "npz"])
def test_other_suffixes(tmp_path, name):
    with pytest.raises(ValueError, match=r"save: .*\.npz or \.safetensors"):
        save(tmp_path / name, {})
    with pytest.raises(ValueError, match=r"load: .*\.npz or \.safetensors"):
        load(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"w": np.array([None])}, "'w' has dtype object"),
        ({"w": np.array(["text"])}, "'w' has dtype <U4"),
        ({"w": np.array([1j])}, "'w' has dtype complex128"),
        ({"w": 2**70}, "'w' has dtype object"),
        ({"w": "text"}, "'w' must be a Tensor, an array or a number, not str"),
        ({"w": [1.0]}, "'w' must be a Tensor, an array or a number, not list"),
        ({"w": None}, "'w' must be .* not NoneType"),
        ({1: np.zeros(2)}, "names must be strings, not 1"),
        ([np.zeros(2)], "not list"),
        (np.zeros(2), "not ndarray"),
    ],
)
def test_what_is_not_numbers_is_a_type_error(tmp_path, suffix, state, message):
    with pytest.raises(TypeError, match=f"^save.*{message}"):
        save(tmp_path / f"a{suffix}", state)
    assert os.listdir(tmp_path) == []


def test_names_that_a_format_cannot_hold(tmp_path, suffix):
    with pytest.raises(ValueError, match="not valid Unicode"):
        save(tmp_path / f"a{suffix}", {"\ud800": 1})
    name = "a\0b" if suffix == ".npz" else "__metadata__"
    with pytest.raises(ValueError, match=r"save: .*rename it or use \." + ("safe" if suffix == ".npz" else "npz")):
        save(tmp_path / f"a{suffix}", {name: 1})
    assert os.listdir(tmp_path) == []
    other = f"a{'.npz' if suffix != '.npz' else needs('.safetensors')}"
    save(tmp_path / other, {name: 1})
    assert load(tmp_path / other).keys() == {name}


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="longdouble is float64 on this platform")
def test_longdouble(tmp_path):
    array = np.array([1.0], np.longdouble)
    save(tmp_path / "a.npz", {"w": array})
    assert load(tmp_path / "a.npz")["w"].dtype == np.longdouble
    with pytest.raises(TypeError, match=r"cannot hold .*'w'; use \.npz"):
        save(tmp_path / f"a{needs('.safetensors')}", {"w": array})


def test_missing_package(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install safetensors.*\.npz"):
        save(tmp_path / "b.safetensors", {"w": 1})
    with pytest.raises(ImportError, match=r"pip install"):
        load(tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_missing_file_and_directory(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load(tmp_path / f"nothing{suffix}")
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere; create it"):
        save(tmp_path / "nowhere" / f"a{suffix}", {})


# -- atomic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, suffix, monkeypatch, where, error):
    path = tmp_path / f"a{suffix}"
    save(path, {"w": np.zeros(3)})
    before = path.read_bytes()

    def fail(*args):
        (temporary,) = set(os.listdir(tmp_path)) - {path.name}
        assert os.path.getsize(tmp_path / temporary) > 0  # the new file was written, beside the old one
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, where, fail)
        with pytest.raises(type(error)):
            save(path, {"w": np.ones(1000)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    save(path, {"w": np.ones(1000)})
    assert load(path)["w"].sum() == 1000


def test_a_save_that_fails_between_two_arrays_leaves_the_old_file(tmp_path, monkeypatch):
    save(tmp_path / "a.npz", {"w": np.zeros(3)})
    written, write_array = [], np.lib.format.write_array

    def fail_second(member, array, **kwargs):
        if written:
            raise OSError("disk full")
        written.append(array)
        write_array(member, array, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", fail_second)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path / "a.npz", {"w": np.ones(3), "v": np.ones(3)})
    assert load(tmp_path / "a.npz").keys() == {"w"}
    assert load(tmp_path / "a.npz")["w"].tolist() == [0, 0, 0]
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_mode_and_links_are_those_of_a_plain_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    save(tmp_path / "a.npz", {"w": 1})
    assert os.stat(tmp_path / "a.npz").st_mode == os.stat(tmp_path / "plain").st_mode
    os.symlink(tmp_path / "a.npz", tmp_path / "latest.npz")
    save(tmp_path / "latest.npz", {"w": 2})
    assert os.path.islink(tmp_path / "latest.npz")
    assert load(tmp_path / "a.npz")["w"] == 2


# -- damaged and hostile files ---------------------------------------------------------------


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_pickles_are_refused_and_not_run(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez(path, w=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match=r"load: cannot read .*bomb\.npz.*never pickled objects"):
        load(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "text")
    with pytest.raises(ValueError, match=r"bomb\.npz"):
        load(path)
    assert not Bomb.exploded
    with np.load(path, allow_pickle=True) as archive:
        archive["w"]
    assert Bomb.exploded  # the bomb is live: what was tested is that it was not touched


def test_files_cut_short(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    save(path, {"w": np.arange(20.0), "bias": np.ones(3, np.float32)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"load: cannot read .*cut\{suffix}.*cut short"):
            load(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise(tmp_path_factory, data):
    for kind in (".npz", needs(".safetensors")):
        path = tmp_path_factory.getbasetemp() / f"noise{kind}"
        path.write_bytes(b"noise" + data)
        with pytest.raises(ValueError, match=rf"noise\{kind}"):
            load(path)


def test_a_changed_byte_in_the_data_is_found(tmp_path):
    save(tmp_path / "a.npz", {"w": np.zeros(1000)})
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[4000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="CRC"):
        load(tmp_path / "a.npz")


def npy(shape, data):
    out = bytes_io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue() + data


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.npy", npy((10**6,), b"short")),
        ("w.npy", npy((10**15,), b"short")),
        ("w.npy", npy((2,), bytes(24))),
        ("w.npy", b"not an array"),
        ("w.txt", npy((1,), bytes(8))),
    ],
)
def test_npz_members_that_lie(tmp_path, name, content):
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"load: cannot read .*lie\.npz"):
        load(tmp_path / "lie.npz")


def test_formats_taken_for_each_other(tmp_path):
    save(tmp_path / f"a{needs('.safetensors')}", {"w": 1})
    os.rename(tmp_path / "a.safetensors", tmp_path / "a.npz")
    with pytest.raises(ValueError, match="of another format"):
        load(tmp_path / "a.npz")


# -- check_names -----------------------------------------------------------------------------


def test_check_names_accepts_what_fits():
    check_names({"w": (2, 3), "s": ()}, {"s": 1.0, "w": sm.Tensor(np.ones((2, 3)))}, "Linear")
    check_names({}, {}, "nothing")


def test_check_names_lists_everything_at_once():
    wanted = {"a": (1,), "b": (), "w": (3, 4), "v": (2,)}
    given_arrays = {"w": np.ones((4, 4)), "v": np.ones((2, 1)), "x": np.ones(1), "y": 2}
    with pytest.raises(ValueError) as caught:
        check_names(wanted, given_arrays, "load_state_dict of Net")
    assert str(caught.value).splitlines() == [
        "load_state_dict of Net: the names and shapes do not fit",
        "  missing: a, b",
        "  unexpected: x, y",
        "  wrong shape: w: expected (3, 4), file has (4, 4)",
        "  wrong shape: v: expected (2,), file has (2, 1)",
    ]


@pytest.mark.parametrize(
    ("given_arrays", "line"),
    [({}, "missing: w"), ({"w": 1.0, "z": 1}, "unexpected: z"), ({"w": [1.0]}, r"wrong shape: w: expected \(\)")],
)
def test_check_names_lists_only_what_is_wrong(given_arrays, line):
    with pytest.raises(ValueError, match=rf"^Net: .*\n  {line}[^\n]*$"):
        check_names({"w": ()}, given_arrays, "Net")
