"The training command in a fresh process: a tiny pool, two steps, weights that load; one clear line when something is missing."
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = shutil.which('solopose_train', path=str(Path(sys.executable).parent)) or shutil.which('solopose_train')
pytest.importorskip('pytorch_lightning', reason='training needs solopose[train]')
pytest.importorskip('warp', reason='drawing people needs solopose[synth]')


def train(*args):
    return subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, timeout=300)


def test_two_steps_make_weights(tmp_path):
    from solopose.model import create_model
    from solopose.train import draw_pool
    draw_pool(None, tmp_path / 'pool', 'single', 1, 4)
    draw_pool(None, tmp_path / 'pool', 'test', 1, 2)
    shutil.copy(Path(__file__).parents[1] / 'solopose/data/bodies.safetensors', tmp_path / 'pack.safetensors')
    ran = train('--pool', tmp_path / 'pool', '--pack', tmp_path / 'pack.safetensors', '--out', tmp_path / 'run', '--steps', 2, '--batch', 4, '--threads', 1)
    assert ran.returncode == 0, ran.stderr[-2000:]
    scores = json.loads((tmp_path / 'run/scores.json').read_text())
    model = create_model(pretrained=tmp_path / 'run/weights.safetensors')
    assert model.metadata['steps'] == 2 and model.metadata['scores'] == scores and scores['frames'] == 16


def test_empty_pool_is_one_clear_line(tmp_path):
    (tmp_path / 'pack').touch()
    ran = train('--pool', tmp_path / 'pool', '--pack', tmp_path / 'pack', '--out', tmp_path / 'run', '--steps', 1, '--test', 0)
    said = [line for line in ran.stderr.splitlines() if line.startswith('solopose_train:')]
    assert ran.returncode == 2 and len(said) == 1 and 'draw a pool first' in said[0] and 'Traceback' not in ran.stderr
