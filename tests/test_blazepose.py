"The third kind of encoder without a network, from the command line, and after damage."
import os, subprocess, sys
from pathlib import Path
import pytest
from conftest import refused
from safetensors.torch import save_file
from solopose.blazepose import PACKAGE, BlazePoseTower, convert_blazepose, published_file
from solopose.spatial import SpatialEncoder

PUBLISHED_PACKAGE = Path(__file__).parent.parent / 'runs' / 'mediapipe-pose-0.5.1675469404.tgz'
here = pytest.mark.skipif(not PUBLISHED_PACKAGE.exists(), reason=f'{PUBLISHED_PACKAGE.name} is not in runs/: npm pack {PACKAGE}')
OFFLINE = """
import socket, sys
def refuse(*a, **k): raise AssertionError('a connection was tried')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from solopose.spatial import SpatialEncoder
encoder = SpatialEncoder('blazepose:lite', sys.argv[1], image_size=192, trainable=False)
with torch.no_grad(): print(tuple(encoder(torch.zeros(1, 3, 192, 192)).shape))
"""


def run(*words): return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.fixture
def command(tmp_path_factory):
    "`solopose_blazepose` in a process of its own."
    script = tmp_path_factory.mktemp('script') / 'command.py'  # fastcore reads the arguments of a script, not of `python -c`
    script.write_text('from solopose.blazepose import solopose_blazepose\nsolopose_blazepose()\n')
    return lambda *words: run(script, *words)


def test_no_network(tmp_path):
    save_file(BlazePoseTower('lite').state_dict(), tmp_path / 'lite.safetensors')
    done = run('-c', OFFLINE, tmp_path / 'lite.safetensors')
    assert done.stdout == '(1, 37, 768)\n', done.stderr


def test_wrong_file_is_one_line(tmp_path, command):
    (out := tmp_path / 'full.safetensors').write_bytes(b'what was there')
    (tmp_path / 'x.tflite').write_bytes(b'TFL3')
    done = command('full', '--package', tmp_path / 'x.tflite', '--out', out)
    assert 'SHA-256' in refused(done, 'x.tflite')
    assert out.read_bytes() == b'what was there'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['full.safetensors', 'x.tflite']


@here
def test_converted_and_one_byte_changed(tmp_path, command):
    raw = bytearray(published_file(PUBLISHED_PACKAGE, 'lite'))
    (tmp_path / 'lite.tflite').write_bytes(raw)
    a = convert_blazepose(tmp_path / 'lite.tflite', tmp_path / 'a.safetensors', 'lite')
    b = convert_blazepose(PUBLISHED_PACKAGE, tmp_path / 'b.safetensors', 'lite')
    marks = [SpatialEncoder('blazepose:lite', p, trainable=False).fingerprint() for p in (a, b)]
    assert marks[0] == marks[1] != SpatialEncoder('blazepose:lite', trainable=False).fingerprint()
    raw[len(raw) // 2] ^= 1
    (tmp_path / 'lite.tflite').write_bytes(raw)
    done = command('lite', '--package', tmp_path / 'lite.tflite', '--out', tmp_path / 'c.safetensors')
    refused(done, 'lite.tflite')
    assert not (tmp_path / 'c.safetensors').exists()
