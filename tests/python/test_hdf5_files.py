"""Files as people have them, written by the tools that they use: hadal reads what h5py reads, to the last bit,
or refuses in one line."""

import importlib.util
import os
import pathlib
import subprocess

import h5py
import hdf5plugin
import netCDF4
import numpy
import pandas
import pytest
import tables

DUMP = os.environ["DUMP_ROWS"]
ROWS = 50


def numbers(dtype, shape=(6, 5)):
    """Of every magnitude, as far as the type allows, with runs that compress."""
    draws = numpy.random.default_rng(1)
    dtype = numpy.dtype(dtype)
    full = (ROWS, *shape)
    if dtype.kind == "b":
        return draws.integers(0, 2, full).astype(bool)
    if dtype.kind in "iu":
        info = numpy.iinfo(dtype)
        values = draws.integers(info.min, info.max, full, dtype=dtype.newbyteorder("="), endpoint=True)
        return numpy.repeat(values[:, :1], full[1], axis=1).astype(dtype) if len(full) > 1 else values.astype(dtype)
    return (draws.standard_normal(full) * 10.0 ** draws.integers(-3, 4, full)).astype(dtype)


def dump(tmp_path, file, dataset="/x", memory=1 << 30):
    """(dtype, shape, who read it, bytes), or the refusal."""
    out = tmp_path / "rows.bin"
    # Some of the packages that write files bring plug-ins for the library, and name their place.
    own = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run([DUMP, str(out), str(memory), str(file), dataset], capture_output=True, text=True, check=False,
                          env=own)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    if done.returncode == 1:
        return done.stdout
    dtype, shape, reader = done.stdout.split()
    return dtype, tuple(map(int, shape.split(","))), reader, out.read_bytes()


def check(tmp_path, file, dataset="/x", reader="past", expected=None):
    """Both with all blocks in memory and with none to spare."""
    if expected is None:
        with h5py.File(file, "r") as opened:
            expected = opened[dataset][()]
    native = expected.astype(expected.dtype.newbyteorder("="))
    for memory in (1 << 30, 1):
        found = dump(tmp_path, file, dataset, memory)
        assert not isinstance(found, str), found
        assert found[1] == expected.shape
        assert found[2] == reader, file
        assert found[3] == native.tobytes()


def write(path, data, libver=None, userblock=0, **options):
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("x", data=data, **options)
    return path


TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?", ">u2", ">i4", ">i8", ">f4", ">f8"]
CHUNKS = [None, (1, 6, 5), (8, 6, 5), (7, 4, 3), (ROWS, 6, 5), (64, 2, 5)]
PLUGINS = {
    "lz4": hdf5plugin.LZ4(nbytes=256),
    "lz4 default": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="none"),
    "bitshuffle lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "blosc lz4": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE),
    "blosc blosclz": hdf5plugin.Blosc(cname="blosclz", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    "blosc zstd": hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.NOSHUFFLE),
    "blosc zlib": hdf5plugin.Blosc(cname="zlib"),
}
FILTERS = {
    "gzip": {"compression": "gzip"},
    "gzip shuffle": {"compression": "gzip", "shuffle": True},
    "gzip shuffle fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher32": {"fletcher32": True},
    "shuffle": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "lzf shuffle": {"compression": "lzf", "shuffle": True},
    "szip": {"compression": "szip"},
    **PLUGINS,
}


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_contiguous_and_compressed(tmp_path, dtype):
    for name, options in {"plain": {}, "gzip": {"compression": "gzip", "shuffle": True, "chunks": (7, 4, 3)}}.items():
        check(tmp_path, write(tmp_path / f"{name}.h5", numbers(dtype), **options))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "v112", "v114"])
def test_every_chunk_index_of_the_library(tmp_path, chunk, libver):
    for name, options in {"fixed": {}, "one axis grows": {"maxshape": (None, 6, 5)},
                          "all grow": {"maxshape": (None, None, None)}}.items():
        if (chunk is None and name != "fixed") or (chunk and chunk[0] > ROWS and name == "fixed"):
            continue
        for compressed in (None, "gzip"):
            if compressed and chunk is None:
                continue
            path = write(tmp_path / "x.h5", numbers("f4"), (libver, libver) if libver != "earliest" else None,
                         chunks=chunk, compression=compressed, **options)
            check(tmp_path, path)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter(tmp_path, name):
    for dtype in ("u1", "i2", "f4", "f8", "i8"):
        for chunk in ((1, 6, 5), (8, 6, 5), (7, 4, 3)):
            options = FILTERS[name]
            options = dict(options) if isinstance(options, dict) else dict(**options)
            check(tmp_path, write(tmp_path / "x.h5", numbers(dtype), chunks=chunk, **options))


@pytest.mark.parametrize("name", ["scaleoffset", "zfp", "bzip2"])
def test_a_filter_that_only_the_library_has_is_read_through_it_or_refused_by_name(tmp_path, name):
    options = {"scaleoffset": {"scaleoffset": 0}, "zfp": hdf5plugin.Zfp(reversible=True),
               "bzip2": hdf5plugin.BZip2()}[name]
    path = write(tmp_path / "x.h5", numbers("i4"), chunks=(8, 6, 5), **options)
    if name == "scaleoffset":
        check(tmp_path, path, reader="library")
    else:
        assert f"is compressed with {name} (filter" in dump(tmp_path, path)


@pytest.mark.parametrize("options", [
    hdf5plugin.Blosc2(), hdf5plugin.Blosc2(cname="zstd", filters=hdf5plugin.Blosc2.BITSHUFFLE),
    hdf5plugin.Blosc2(cname="lz4", filters=hdf5plugin.Blosc2.NOFILTER)], ids=["default", "bitshuffle", "plain"])
def test_blosc2_is_read_where_its_library_is_and_else_refused_by_name(tmp_path, options):
    for dtype in ("u1", "f4", "i8"):
        for chunk in ((1, 6, 5), (8, 6, 5), (7, 4, 3)):
            path = write(tmp_path / "x.h5", numbers(dtype), chunks=chunk, **options)
            found = dump(tmp_path, path)
            if isinstance(found, str):
                assert "is compressed with blosc2 (filter 32026)" in found
            else:
                check(tmp_path, path)
    # As PyTables writes it, chunks are arrays with a shape.
    with tables.open_file(tmp_path / "t.h5", "w") as file:
        file.create_carray("/", "x", obj=numbers("f4"), filters=tables.Filters(5, "blosc2:zstd"), chunkshape=(8, 3, 5))
    if isinstance(found, str):
        assert "is compressed with blosc2" in dump(tmp_path, tmp_path / "t.h5")
    else:
        check(tmp_path, tmp_path / "t.h5")


@pytest.mark.parametrize("userblock", [512, 2048])
def test_a_user_block_moves_everything(tmp_path, userblock):
    for options in ({}, {"chunks": (8, 6, 5)}, {"chunks": (8, 6, 5), "compression": "gzip"}):
        path = write(tmp_path / "x.h5", numbers("f4"), userblock=userblock, **options)
        check(tmp_path, path)


def test_one_axis_many_axes_and_single_values(tmp_path):
    for shape in ((), (1,), (3, 2, 4, 2), (1, 1)):
        for chunks in (None, True):
            check(tmp_path, write(tmp_path / "x.h5", numbers("f4", shape), chunks=chunks))


def test_filters_that_were_left_out_of_single_chunks(tmp_path):
    data = numbers("f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data.shape, "f4", chunks=(10, 6, 5), compression="gzip", shuffle=True)
        dataset[...] = data
        # Chunk 1 not compressed, chunk 2 not filtered at all.
        planes = data[10:20].reshape(-1).view("u1").reshape(-1, 4).T.tobytes()
        dataset.id.write_direct_chunk((10, 0, 0), planes, filter_mask=2)
        dataset.id.write_direct_chunk((20, 0, 0), data[20:30].tobytes(), filter_mask=3)
    check(tmp_path, tmp_path / "x.h5")


def test_edges_that_are_stored_without_filters(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="v110") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((8, 4, 5))
        properties.set_deflate(4)
        if not hasattr(properties, "set_chunk_opts"):
            pytest.skip("this h5py cannot ask for it")
        properties.set_chunk_opts(2)
        space = h5py.h5s.create_simple((ROWS, 6, 5))
        h5py.Dataset(h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties))[...] = numbers("f4")
    check(tmp_path, tmp_path / "x.h5")


def test_behind_links_and_outside_of_the_file(tmp_path):
    write(tmp_path / "source.h5", numbers("f4"), chunks=(8, 6, 5), compression="gzip")
    write(tmp_path / "plain.h5", numbers("i4"))
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["data/real"] = numbers("f8")
        file["soft"] = h5py.SoftLink("/data/real")
        file["external"] = h5py.ExternalLink("source.h5", "/x")
        file["plain"] = h5py.ExternalLink("plain.h5", "/x")
        file["gone"] = h5py.ExternalLink("gone.h5", "/x")
    for name in ("/soft", "/external", "/plain", "/data/real"):
        check(tmp_path, tmp_path / "links.h5", name)
    assert "gone" in dump(tmp_path, tmp_path / "links.h5", "/gone")
    data = numbers("f4")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("x", data=data, external=[(str(tmp_path / "raw 1.bin"), 0, 2000),
                                                      (str(tmp_path / "raw 2.bin"), 64, h5py.h5f.UNLIMITED)])
    check(tmp_path, tmp_path / "outside.h5", reader="library")


def test_compact_data_lie_in_the_header(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((ROWS, 6, 5))
        h5py.Dataset(h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties))[...] = numbers("f4")
    check(tmp_path, tmp_path / "x.h5", reader="library")


def records(rows=ROWS):
    made = numpy.zeros(rows, [("id", ">i4"), ("energy", "f8"), ("flags", "u1"), ("image", "f4", (2, 3)), ("name", "S5")])
    made["id"] = numpy.arange(rows) * 7
    made["energy"] = numbers("f8", ())[:rows]
    made["image"] = numbers("f4", (2, 3))[:rows]
    made["name"] = b"name"
    return made


@pytest.mark.parametrize("options", [{}, {"chunks": (8,)}, {"chunks": (8,), "compression": "gzip", "shuffle": True}])
def test_columns_of_compounds(tmp_path, options):
    path = write(tmp_path / "x.h5", records(), **options)
    for column in ("id", "energy", "image", "flags"):
        check(tmp_path, path, f"/x:{column}", expected=records()[column])
    assert "has no column nmae of numbers" in dump(tmp_path, path, "/x:nmae")
    assert "has no column name of numbers" in dump(tmp_path, path, "/x:name")
    assert "x.h5:/x is a compound; only plain numbers can be read, of a compound one column: /x:NAME" in dump(
        tmp_path, path)


@pytest.mark.parametrize("options", [{}, {"chunks": (8, 4)}, {"chunks": (8, 4), "compression": "gzip"}])
def test_complex_numbers_and_array_types_have_further_axes(tmp_path, options):
    data = numbers("f4", (6,)) + 1j * numbers("f4", (6,))[::-1]
    for dtype in ("c8", "c16", ">c8"):
        stored = data.astype(dtype)
        path = write(tmp_path / "x.h5", stored, **options)
        expected = stored.astype(stored.dtype.newbyteorder("=")).view("f4" if "8" in dtype else "f8")
        check(tmp_path, path, expected=expected.reshape(ROWS, 6, 2))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (ROWS, 6), numpy.dtype(("i2", (3, 2))), **options)[...] = numbers("i2", (6, 3, 2))
    check(tmp_path, tmp_path / "x.h5", expected=numbers("i2", (6, 3, 2)))


def test_names_may_hold_the_signs_that_paths_use(tmp_path):
    data = numbers("f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in ("a@b", "runs/*", "c:d", "[x]?"):
            file[name] = data
    for name in ("/a@b", "/runs/*", "/c:d", "/[x]?"):
        check(tmp_path, tmp_path / "x.h5", dataset=name, expected=data)


@pytest.mark.parametrize("options", [{}, {"chunks": (7,)}, {"chunks": (7,), "compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("longest", [5, 300, 70_000])
def test_bytes_of_variable_length(tmp_path, options, longest):
    draws = numpy.random.default_rng(4)
    rows = [draws.bytes(int(n)) for n in draws.integers(0, longest, ROWS)]
    for libver, userblock in ((None, 0), ("v110", 0), (None, 1024)):
        with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=userblock) as file:
            x = file.create_dataset("x", ROWS, h5py.vlen_dtype("u1"), **options)
            for k, row in enumerate(rows):
                x[k] = numpy.frombuffer(row, "u1")
        for memory in (1 << 30, 1):
            found = dump(tmp_path, tmp_path / "x.h5", memory=memory)
            assert found == ("uint8", (ROWS, 16), "past", b"".join(rows))


def virtual(tmp_path, layout):
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    return tmp_path / "virtual.h5"


def test_virtual_datasets_are_their_sources(tmp_path):
    data = numbers("f4")
    pieces = [(0, 20), (20, 21), (21, ROWS)]
    for k, (first, last) in enumerate(pieces):
        write(tmp_path / f"part {k}.h5", data[first:last], chunks=(7, 4, 3) if last - first > 6 else None,
              compression="gzip" if last - first > 6 else None)
    layout = h5py.VirtualLayout(data.shape, "f4")
    for k, (first, last) in enumerate(pieces):
        layout[first:last] = h5py.VirtualSource(f"part {k}.h5", "x", (last - first, 6, 5))
    check(tmp_path, virtual(tmp_path, layout))
    # A part of a source, sources in another order than the rows, and a source a row.
    write(tmp_path / "whole.h5", data, chunks=(8, 6, 5))
    layout = h5py.VirtualLayout((30, 6, 5), "f4")
    source = h5py.VirtualSource("whole.h5", "x", data.shape)
    layout[20:30] = source[3:13]
    layout[0:20] = source[30:50]
    check(tmp_path, virtual(tmp_path, layout), expected=numpy.concatenate([data[30:50], data[3:13]]))
    for k in range(5):
        write(tmp_path / f"row {k}.h5", data[k], chunks=(4, 3) if k % 2 else None)
    layout = h5py.VirtualLayout((5, 6, 5), "f4")
    for k in range(5):
        layout[k] = h5py.VirtualSource(f"row {k}.h5", "x", (6, 5))
    check(tmp_path, virtual(tmp_path, layout))
    # Not rows of a source: the library's.
    layout = h5py.VirtualLayout((ROWS, 6, 10), "f4")
    layout[:, :, :5] = source
    layout[:, :, 5:] = source
    check(tmp_path, virtual(tmp_path, layout), reader="library")
    # Another type: the library converts it.
    layout = h5py.VirtualLayout(data.shape, "f8")
    layout[...] = source
    check(tmp_path, virtual(tmp_path, layout), reader="library")


def test_virtual_rows_without_a_source_are_refused(tmp_path):
    data = numbers("f4")
    write(tmp_path / "a.h5", data)
    layout = h5py.VirtualLayout((ROWS + 10, 6, 5), "f4")
    layout[10:] = h5py.VirtualSource("a.h5", "x", data.shape)
    assert f"only {ROWS * 30} of its {(ROWS + 10) * 30} elements have a source" in dump(tmp_path, virtual(tmp_path, layout))
    layout = h5py.VirtualLayout((ROWS, 6, 11), "f4")
    layout[:, :, :5] = h5py.VirtualSource("a.h5", "x", data.shape)
    layout[:, :, 6:] = h5py.VirtualSource("a.h5", "x", data.shape)
    assert "elements have a source" in dump(tmp_path, virtual(tmp_path, layout))
    layout = h5py.VirtualLayout((2 * ROWS, 6, 5), "f4")
    layout[:ROWS] = h5py.VirtualSource("a.h5", "x", data.shape)
    layout[ROWS:] = h5py.VirtualSource("gone.h5", "x", data.shape)
    found = dump(tmp_path, virtual(tmp_path, layout))
    assert "unusable source" in found and "gone.h5" in found
    layout = h5py.VirtualLayout((2 * ROWS, 6, 5), "f4")
    layout[...] = h5py.VirtualSource("a.h5", "x", (2 * ROWS, 6, 5))
    assert f"has {ROWS} rows, {2 * ROWS} are wanted" in dump(tmp_path, virtual(tmp_path, layout))


def test_damage_is_found_and_placed(tmp_path):
    for name in ("gzip", "gzip shuffle fletcher32", "fletcher32", "bitshuffle lz4", "lz4", "blosc zstd", "zstd", "lzf"):
        data = numbers("i2")
        path = write(tmp_path / "x.h5", data, chunks=(10, 6, 5), **FILTERS[name])
        with h5py.File(path, "r") as file:
            chunk = file["x"].id.get_chunk_info(3)
        with open(path, "r+b") as file:
            file.seek(chunk.byte_offset + chunk.size // 2)
            inside = file.read(16)
            file.seek(-len(inside), 1)
            file.write(bytes(255 - byte for byte in inside))
        found = dump(tmp_path, path)
        if isinstance(found, str):
            assert "x.h5:/x cannot be read in rows 30 to 39" in found, (name, found)
            continue
        # Without a checksum it may pass for data, of that chunk alone.
        assert "gzip" not in name and "fletcher32" not in name
        read = numpy.frombuffer(found[3], "i2").reshape(data.shape)
        assert (read[:30] == data[:30]).all() and (read[40:] == data[40:]).all()


def numeric(array):
    """As hadal sees it: native byte order, a complex number as a further axis of two; None for no numbers."""
    array = numpy.asarray(array)
    if array.dtype.kind not in "biufc" or array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1) > 8:
        return None
    native = numpy.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    return native.view(f"f{native.dtype.itemsize // 2}").reshape(*native.shape, 2) if native.dtype.kind == "c" else native


def compare(tmp_path, file, dataset, expected):
    """True where hadal reads it, and as expected; False where it refuses, in one line that says what and where."""
    found = dump(tmp_path, file, dataset)
    if isinstance(found, str):
        assert found.count("\n") == 1, found
        assert pathlib.Path(file).name in found or found == "the dataset has no samples\n", found
        return False
    expected = numeric(expected)
    assert expected is not None, (file, dataset)
    assert found[1] == expected.shape
    assert found[3] == expected.tobytes(), (file, dataset)
    return True


def all_columns(file):
    """(path, values) of every dataset of a file, of every column of compounds; None where h5py cannot read it."""
    found = []

    def visit(name, item):
        if not isinstance(item, h5py.Dataset):
            return
        try:
            values = item[()]
        except Exception:  # whatever keeps h5py from it
            values = None
        found.append((f"/{name}", values))
        for column in getattr(getattr(values, "dtype", None), "names", None) or ():
            found.append((f"/{name}:{column}", values[column]))

    with h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return found


SHIPPED = sorted(path for package in ("tables", "h5py") for folder in importlib.util.find_spec(package).submodule_search_locations
                 for path in pathlib.Path(folder).rglob("*") if path.suffix in (".h5", ".hdf5", ".mat"))


def test_files_that_ship_inside_other_packages(tmp_path):
    assert len(SHIPPED) > 40
    read = 0
    for file in SHIPPED:
        try:
            columns = all_columns(file)
        except OSError:
            continue
        for path, values in columns:
            read += compare(tmp_path, file, path, values)
    assert read > 60


def test_arrays_and_tables_of_pytables(tmp_path):
    path = tmp_path / "tables.h5"
    data = numbers("f4")
    with tables.open_file(path, "w") as file:
        file.create_array("/", "array", data)
        file.create_carray("/", "zlib", obj=data, filters=tables.Filters(5, "zlib", shuffle=True, fletcher32=True))
        for library in ("blosc:lz4", "blosc:zstd", "blosc:blosclz", "bzip2", "blosc2"):
            file.create_carray("/", library.replace(":", "_"), obj=data, filters=tables.Filters(5, library))
        grows = file.create_earray("/", "grows", tables.Float64Atom(), (0, 7), filters=tables.Filters(1, "blosc"))
        for _ in range(3):
            grows.append(numbers("f8", (7,)))
        native = [("id", "i4"), ("energy", "f8"), ("image", "f4", (2, 3))]
        rows = numpy.array(records()[["id", "energy", "image"]].tolist(), native)
        file.create_table("/", "table", rows, filters=tables.Filters(5, "blosc"))
        vlarray = file.create_vlarray("/", "ragged", tables.Int32Atom())
        vlarray.append([1, 2, 3])
    for name, expected in {"array": data, "zlib": data, "blosc_lz4": data, "blosc_zstd": data, "blosc_blosclz": data,
                           "grows": numpy.concatenate([numbers("f8", (7,))] * 3)}.items():
        assert compare(tmp_path, path, f"/{name}", expected), name
    for column in ("id", "energy", "image"):
        assert compare(tmp_path, path, f"/table:{column}", records()[column])
    assert "of variable length" in dump(tmp_path, path, "/ragged")
    found = dump(tmp_path, path, "/blosc2")
    if isinstance(found, str):
        assert "is compressed with blosc2" in found
    else:
        assert compare(tmp_path, path, "/blosc2", data)


def test_frames_of_pandas(tmp_path):
    path = tmp_path / "frames.h5"
    frame = pandas.DataFrame(numbers("f8", (4,)), columns=list("abcd"))
    frame["n"] = numpy.arange(ROWS)
    frame.to_hdf(path, key="fixed", format="fixed")
    frame.to_hdf(path, key="table", format="table", complevel=5, complib="blosc:zstd", data_columns=["n"])
    values = frame[list("abcd")].to_numpy()
    assert compare(tmp_path, path, "/fixed/block0_values", values)
    assert compare(tmp_path, path, "/fixed/block1_values", frame[["n"]].to_numpy())
    assert compare(tmp_path, path, "/table/table:values_block_0", values)
    assert compare(tmp_path, path, "/table/table:n", frame["n"])


def test_variables_of_netcdf(tmp_path):
    path = tmp_path / "climate.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("y", 6)
        file.createDimension("x", 5)
        for name, options in {"plain": {}, "zlib": {"zlib": True, "shuffle": True, "chunksizes": (7, 4, 3)},
                              "checked": {"fletcher32": True}, "big": {"endian": "big"}}.items():
            file.createVariable(name, "f4", ("time", "y", "x"), **options)[:] = numbers("f4")
    for name in ("plain", "zlib", "checked", "big"):
        assert compare(tmp_path, path, f"/{name}", numbers("f4")), name


def test_matrices_as_matlab_stores_them(tmp_path):
    # MATLAB 7.3: 512 bytes of its own, then HDF5; columns first, so that samples are the last axis of its matrix.
    data = numbers("f8", (5,))
    path = write(tmp_path / "x.mat", data, userblock=512, chunks=(8, 5), compression="gzip")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    with h5py.File(path, "a") as file:
        file["x"].attrs["MATLAB_class"] = numpy.bytes_("double")
    check(tmp_path, path)
