"""Conda packages by the name that a package index knows them under, or the reason why they are left out there.

Leaving out is also a matter of safety: a name such as `openssl` may belong to somebody else on a public index.
"""

# Normalised conda name (lower case, `-`) -> index name.
INDEX_NAMES = {
    "astunparse-base": "astunparse",
    "brotli-python": "brotli",
    "dask-core": "dask",
    "distributed-core": "distributed",
    "faiss": "faiss-cpu",
    "google-cloud-storage-core": "google-cloud-storage",
    "keras-base": "keras",
    "keras-gpu": "keras",
    "matplotlib-base": "matplotlib",
    "mlflow-core": "mlflow",
    "msgpack-python": "msgpack",
    "numpy-base": "numpy",
    "onnxruntime-base": "onnxruntime",
    "opencv": "opencv-python-headless",
    "pandas-base": "pandas",
    "py-lightgbm": "lightgbm",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "pyarrow-core": "pyarrow",
    "pyqt": "pyqt5",
    "pytables": "tables",
    "python-blosc": "blosc",
    "python-duckdb": "duckdb",
    "python-flatbuffers": "flatbuffers",
    "python-graphviz": "graphviz",
    "python-lmdb": "lmdb",
    "python-tzdata": "tzdata",
    "python-xxhash": "xxhash",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "ruamel-yaml": "ruamel.yaml",
    "scikit-learn-base": "scikit-learn",
    "seaborn-base": "seaborn",
    "tensorflow-base": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "torchaudio-cpu": "torchaudio",
    "torchvision-cpu": "torchvision",
    "xgboost-cpu": "xgboost",
}

# Native libraries, and parts of the interpreter: wheels and Python bring their own.
_BUNDLED = """
-libgcc-mutex -openmp-mutex alsa-lib aws-c-auth blas blas-devel bzip2 c-ares ca-certificates cairo cpuonly cuda
cuda-cudart cuda-libraries cuda-runtime cuda-version cudatoolkit cudnn dbus expat fontconfig freetype fribidi gettext
giflib glib gmp gnutls gst-plugins-base gstreamer harfbuzz hdf5 icu intel-openmp jpeg krb5 lame lcms2 ld-impl-linux-64
ld-impl-linux-aarch64 lerc libabseil libarrow libblas libboost libbrotlicommon libcblas libcublas libcufft libcurand
libcurl libcusolver libcusparse libdeflate libedit libev libevent libexpat libffi libgcc libgcc-ng libgfortran
libgfortran-ng libgfortran5 libglib libgomp libiconv libjpeg-turbo liblapack liblapacke libllvm11 libllvm14 libllvm15
liblzma libnghttp2 libnsl libopenblas libopencv libpng libpq libprotobuf libsodium libsqlite libssh2 libstdcxx
libstdcxx-ng libthrift libtiff libtorch libutf8proc libuuid libuv libvpx libwebp libwebp-base libxcb libxcrypt
libxgboost libxml2 libxslt libzlib llvm-openmp lz4-c mkl mkl-devel mkl-fft mkl-include mkl-random mkl-service nccl
ncurses nettle nomkl openblas openblas-devel openh264 openjpeg openmp openssl orc pcre pcre2 pixman pthread-stubs
python-abi pytorch-cuda pytorch-mutex qt qt-main re2 readline s2n snappy sqlite tbb tk tzdata-data vc vs2015-runtime
x264 xorg-libxau xorg-libxdmcp xz yaml zeromq zlib zstd
"""
# Tools of conda or of building.
_TOOLS = """
anaconda-client binutils-linux-64 boa c-compiler compilers conda conda-build conda-env conda-pack cxx-compiler gcc
gcc-linux-64 gfortran gfortran-linux-64 gxx gxx-linux-64 kernel-headers-linux-64 make mamba micromamba patchelf pip
pkg-config swig sysroot-linux-64 wheel
"""
# Programs for people at a shell.
_SHELL = """
curl git git-lfs htop jq unzip vim wget zip
"""
# Programs and languages that scripts call, which no index has.
_SYSTEM = """
ffmpeg graphviz imagemagick java-jdk nodejs openjdk pandoc perl r-base ruby rust tesseract
"""

# Normalised conda name -> why it is left out.
NOT_ON_AN_INDEX = {
    **dict.fromkeys(_BUNDLED.split(), "wheels and Python bring their own native libraries"),
    **dict.fromkeys(_TOOLS.split(), "it is a tool of conda or of building, not needed to serve"),
    **dict.fromkeys(
        _SHELL.split(), "it is no Python package; install it on the machine, or give --conda, if the script needs it"
    ),
    **dict.fromkeys(_SYSTEM.split(), "it is no Python package; only conda has it"),
}
# A file that names one of these is solved with conda's packages.
ONLY_IN_CONDA = frozenset(_SYSTEM.split())
