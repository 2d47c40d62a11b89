"Packs of bodies and motions from the command line: stop and go on, bad files, one clear line."
import signal, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
import pytest
from safetensors.torch import load_file
from solopose.synth.bodies import ANGLES, BodyPack
from solopose.synth.mocap import MotionPack, build_motion_pack, read_bvh, write_bvh
from solopose.synth.motion import Motion, draw_motion


def command(name, *args, **kw):
    "Run a command as its console script would, installed or not."
    with tempfile.TemporaryDirectory() as d:
        script = Path(d) / name
        script.write_text(f'from solopose.{"bodies" if name == "solopose_bodies" else "mocap"} import {name}\n{name}()\n')
        return subprocess.run([sys.executable, str(script), *map(str, args)], capture_output=True, text=True, timeout=300, **kw)


def archive(folder, n=4, frames=60):
    folder.mkdir()
    for i in range(n): write_bvh(draw_motion(np.random.default_rng(i), frames, 30.), BodyPack(), i, folder / f'take_{i}.bvh')
    return folder


def test_motions_command(tmp_path):
    source = archive(tmp_path / 'archive')
    (source / 'broken.bvh').write_text('HIERARCHY'); (source / 'notes.txt').write_text('not a motion')
    out = tmp_path / 'm.safetensors'
    r = command('solopose_motions', source, '--out', out, '--fps', 30)
    assert r.returncode == 0, r.stderr
    assert 'left out: broken.bvh: no MOTION part' in r.stdout and 'left out: notes.txt: ' in r.stdout and '4 takes' in r.stdout
    assert len(MotionPack(out)) == 4 and not Path(f'{out}.parts').exists()


@pytest.mark.parametrize('args, says', [(['nowhere'], 'nowhere: no .bvh'), (['empty'], 'empty: no .bvh')])
def test_motions_command_bad_folder(tmp_path, args, says):
    (tmp_path / 'empty').mkdir()
    r = command('solopose_motions', *args, cwd=tmp_path)
    assert r.returncode == 2 and says in r.stderr and 'Traceback' not in r.stderr


def test_bodies_command_bad_number(tmp_path):
    r = command('solopose_bodies', '--people', 0, cwd=tmp_path)
    assert r.returncode == 2 and '--people 0' in r.stderr and 'Traceback' not in r.stderr


def test_motions_killed_and_resumed(tmp_path):
    source, out = archive(tmp_path / 'archive', 4, 90), tmp_path / 'm.safetensors'
    parts = Path(f'{out}.parts')
    code = 'import sys; from solopose.synth.mocap import build_motion_pack; build_motion_pack(*sys.argv[1:], fps=60)'
    p = subprocess.Popen([sys.executable, '-c', code, str(source), str(out)], stderr=subprocess.DEVNULL)
    end = time.time() + 120
    while time.time() < end and not list(parts.glob('*.safetensors')): time.sleep(.05)
    p.send_signal(signal.SIGKILL); p.wait()
    kept = {f.name: f.stat().st_mtime_ns for f in parts.glob('*.safetensors')}
    assert kept and not out.exists()
    left = build_motion_pack(source, out, 60)  # goes on
    whole = tmp_path / 'whole.safetensors'; build_motion_pack(source, whole, 60)
    assert left == []
    a, b = load_file(str(out)), load_file(str(whole))
    assert all((a[k] == b[k]).all() for k in b) and MotionPack(out).takes == MotionPack(whole).takes


def test_bvh_made_elsewhere(tmp_path):
    "Windows line ends, tabs, prefixes and lower-case keywords are all read."
    m = Motion({k: np.linspace(0, 20, 5) * k.startswith('l_') for k in ANGLES}, np.zeros((5, 3)), 25.)
    a = write_bvh(m, BodyPack(), 0, tmp_path / 'a.bvh'); text = a.read_text()
    for k in ('pelvis', 'l_thigh', 'r_hand'): text = text.replace(f' {k}\n', f' rig:{k}\n')
    (tmp_path / 'b.bvh').write_bytes(text.replace('  ', '\t').replace('Frame Time', 'Frame time').replace('\n', '\r\n').encode())
    np.testing.assert_allclose(read_bvh(tmp_path / 'b.bvh').at, read_bvh(a).at)
