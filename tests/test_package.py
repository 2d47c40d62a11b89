"The package as it is installed: what the wheel holds, and what an import costs."
import json, re, shutil, subprocess, sys, zipfile
import pytest
from conftest import ROOT, run

HEAVY = ('anny', 'warp', 'plotly', 'pytorch_lightning')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "The wheel of this checkout, built from a copy so that nothing is left behind."
    src, out = tmp_path_factory.mktemp('src'), tmp_path_factory.mktemp('wheel')
    for name in ('settings.ini', 'setup.py', 'README.md', 'LICENSE', 'MANIFEST.in'): shutil.copy(ROOT / name, src)
    shutil.copytree(ROOT / 'solopose', src / 'solopose', ignore=shutil.ignore_patterns('__pycache__'))
    got = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', out, src], text=True, capture_output=True)
    assert got.returncode == 0, got.stderr
    return zipfile.ZipFile(next(out.glob('*.whl')))


def test_wheel_holds_model_and_clip(wheel):
    "Weights, demo clip and its truth travel with the package."
    names = wheel.namelist()
    data = [n for n in names if n.startswith('solopose/assets/')]
    assert any(n.endswith('.safetensors') for n in data), data
    assert any(n.endswith('.mp4') for n in data), data
    assert any(re.search(r'truth.*\.(npz|nc|json)$', n) or n.endswith(('.npz', '.nc')) for n in data), data
    assert any(n.endswith('LICENSE') for n in names)


def test_wheel_holds_every_module_and_nothing_else(wheel):
    "All modules of the checkout; no notebook, no test, no build script."
    names = set(wheel.namelist())
    for p in (ROOT / 'solopose').rglob('*.py'): assert p.relative_to(ROOT).as_posix() in names
    assert all(n.startswith(('solopose/', 'solopose-')) for n in names), names


def test_wheel_says_what_it_is(wheel):
    "Version, licence, needed Python and commands are in the metadata."
    read = lambda end: wheel.read(next(n for n in wheel.namelist() if n.endswith(end))).decode()
    meta, points = read('/METADATA'), read('/entry_points.txt')
    version = re.search(r"__version__ = [\"'](.+)[\"']", (ROOT / 'solopose' / '__init__.py').read_text())[1]
    for line in (f'Version: {version}', 'License-Expression: Apache-2.0', 'Requires-Python: >=3.11'):
        assert line in meta or line.replace('License-Expression', 'License') in meta, line
    for name in 'solopose_predict', 'solopose_demo', 'solopose_train':
        assert re.search(rf'^{name} *=', points, re.M), points


def fresh(code):
    "Run `code` in a new process and read the JSON that it prints."
    got = run(sys.executable, '-c', code)
    assert got.returncode == 0, got.stderr
    return json.loads(got.stdout.splitlines()[-1])


@pytest.mark.parametrize('module', ['solopose', 'solopose.predict.run'])
def test_import_pulls_nothing_heavy(module):
    "Rendering, plotting and training libraries load only when used."
    loaded = fresh(f'import {module}, sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))')
    assert loaded == []


@pytest.mark.parametrize('module', ['solopose.training.layers_run', 'solopose.training.command'])
def test_training_imports_on_a_bare_machine(module):
    "A lent card's machine has torch, timm, Lightning and xarray, but nothing that draws, shows or reads films."
    lacks = ['anny', 'warp', 'open_clip', 'plotly', 'av', 'h5netcdf', 'kaleido', 'trackers', 'zarr', 'OpenEXR']
    assert fresh(f'import sys; sys.modules.update(dict.fromkeys({lacks})); import {module}; print("true")')


def test_import_is_quick():
    "`import solopose` costs less than half a second beside torch."
    code = 'import time, json, torch; t = time.perf_counter(); import solopose; print(json.dumps(time.perf_counter() - t))'
    assert min(fresh(code) for _ in range(2)) < .5


def test_every_module_imports_alone():
    "Each module can be the first one imported, so none leans on the order of another."
    names = [p.stem for p in sorted((ROOT / 'solopose').glob('*.py')) if not p.stem.startswith('_')]
    code = ('import sys, json, importlib, torch, xarray\n'
            'bad = {}\n'
            f'for n in {names}:\n'
            '    for m in [m for m in sys.modules if m.split(".")[0] == "solopose"]: del sys.modules[m]\n'
            '    try: importlib.import_module("solopose." + n)\n'
            '    except Exception as e: bad[n] = repr(e)\n'
            'print(json.dumps(bad))')
    assert fresh(code) == {}
