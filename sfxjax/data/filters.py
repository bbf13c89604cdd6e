"""The filters that the chunks of an HDF5 data set pass through, of HDF5 itself or of a plug-in."""

from __future__ import annotations

import h5py

from sfxjax.errors import UserError

# deflate, shuffle, fletcher32, szip, nbit, scaleoffset, and LZF of h5py.
BUILT_IN_FILTERS = (1, 2, 3, 4, 5, 6, 32000)


def filters_of(data: h5py.Dataset) -> list[int]:
    """List the numbers of the filters that a data set's chunks pass through."""
    properties = data.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def by_plugin(data: h5py.Dataset) -> bool:
    """Tell whether a data set is decompressed by a plug-in, which may not bear a damaged chunk."""
    return any(code not in BUILT_IN_FILTERS for code in filters_of(data))


def need_filters(data: h5py.Dataset) -> None:
    """Load hdf5plugin if a data set is compressed by a filter that HDF5 itself lacks.

    Raises:
        UserError: hdf5plugin is needed and missing, or does not have the filter.
    """
    codes = filters_of(data)
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if not missing:
        return
    own = data.file.filename
    try:
        import hdf5plugin  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{own}: compressed by HDF5 filter {missing[0]}; install hdf5plugin to read it"
        ) from error
    for code in missing:
        if not h5py.h5z.filter_avail(code):
            raise UserError(f"{own}: compressed by HDF5 filter {code}, which hdf5plugin does not have")
