#!/usr/bin/env bash
# Surprise: GNU Octave 7.3 reads complex numbers of an HDF5 file of h5py 3.16 as zeros, without a warning and with exit
# status 0. They are a record (r, i) there; load -hdf5 knows another record.
# What follows: a netCDF file for others has real numbers alone, the two parts as two variables.
# Run: bash findings/complex_numbers_in_octave.sh      (exit 0 where the surprise is there; it needs octave)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "h5py==3.16.0" "numpy==2.4.6"
"$folder/venv/bin/python" -c "
import h5py, numpy, sys
with h5py.File(sys.argv[1], 'w') as file:
    file['z'] = numpy.array([1 + 2j, 3 - 4j])" "$folder/a.h5"
octave --version | head -1
read="s = load('-hdf5', '$folder/a.h5', 'z'); printf('%g', max(abs(s.z(:))));"
told=$(octave -qf --eval "$read" 2>"$folder/warnings") || true
warnings=$(grep -c warning "$folder/warnings" || true)
echo "largest modulus of [1+2i, 3-4i] in Octave: ${told:-nothing was read}; warnings: $warnings"
if [ "$told" != "0" ]; then
  echo "the surprise is gone" >&2
  exit 1
fi
