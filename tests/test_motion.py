"Motion files as people have them: dialects, names, damage; packs from the command line: stop and go on, one clear line."
import json, re, signal, subprocess, sys, tempfile, time, warnings
from pathlib import Path
import numpy as np
import pytest
from _fuzz import ended, fuzz, one_line
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation
from solopose.synth.asf_amc import read_amc
from solopose.synth.bodies import BodyPack
from solopose.synth.rig import ANGLES
from solopose.synth.bvh import read_bvh, write_bvh
from solopose.synth.deepmimic import read_motion
from solopose.synth.mocap import MotionPack, build_motion_pack
from solopose.synth.motion import Motion, draw_motion
from solopose.synth.motion_text import CaptureError
from solopose.synth.retarget import fit_report, retarget
from solopose.synth.roles import find_roles


def command(name, *args, **kw):
    "Run a command as its console script would, installed or not."
    with tempfile.TemporaryDirectory() as d:
        script = Path(d) / name
        script.write_text(f'from solopose.synth.{"bodies" if name == "solopose_bodies" else "mocap"} import {name}\n{name}()\n')
        return subprocess.run([sys.executable, str(script), *map(str, args)], capture_output=True, text=True, timeout=300, **kw)


# ---- one walk, written in any dialect ----
OFFSET = dict(hips=(0, 0, 0), spine=(0, 10, 0), spine1=(0, 20, 1), neck=(0, 22, 0), head=(0, 10, 1), head_end=(0, 18, 0))
ABOVE = dict(hips=None, spine='hips', spine1='spine', neck='spine1', head='neck', head_end='head')
for _s, _m in (('l', 1), ('r', -1)):
    OFFSET |= {f'{_s}_{k}': (_m * x, y, z) for k, (x, y, z) in dict(thigh=(9, -3, 0), shank=(0, -42, 1), foot=(0, -41, -1), toe=(0, -5, 13), clavicle=(4, 18, 0),
                                                                  upperarm=(13, 0, -1), forearm=(28, 0, 0), hand=(25, 0, 1), hand_end=(8, 0, 0)).items()}
    ABOVE |= {f'{_s}_thigh': 'hips', f'{_s}_shank': f'{_s}_thigh', f'{_s}_foot': f'{_s}_shank', f'{_s}_toe': f'{_s}_foot', f'{_s}_clavicle': 'spine1',
              f'{_s}_upperarm': f'{_s}_clavicle', f'{_s}_forearm': f'{_s}_upperarm', f'{_s}_hand': f'{_s}_forearm', f'{_s}_hand_end': f'{_s}_hand'}
ORDER = [k for k in ABOVE]
KEYPOINTS = ('head', *(f'{s}_{k}' for s in 'lr' for k in ('thigh', 'shank', 'foot', 'upperarm', 'forearm', 'hand')))


def walk(seed=0, frames=40):
    "Local rotations {joint: (T, 3, 3)} and way of the hips (T, 3), cm, y up: somebody who walks 2.4 m forward (+z) and turns a little."
    rng, t = np.random.default_rng(seed), np.linspace(0, 2 * np.pi, frames)
    turn = lambda *xyz: Rotation.from_euler('YXZ', np.stack(np.broadcast_arrays(xyz[1], xyz[0], xyz[2], t)[:3], 1), degrees=True).as_matrix()
    wave = lambda size, shift=0.: size * rng.uniform(.5, 1) * np.sin(t + shift)
    local = {k: turn(wave(4), wave(6), wave(3)) for k in ORDER if not k.endswith('_end')}
    local['hips'] = turn(wave(3), wave(40) + rng.uniform(-30, 30), wave(3))
    for s, m, p in (('l', 1, 0), ('r', -1, np.pi)):
        local |= {f'{s}_thigh': turn(wave(30, p), wave(5), wave(5)), f'{s}_shank': turn(30 + 25 * np.sin(t + p), 0, 0),
                  f'{s}_upperarm': turn(wave(10), wave(20, p), -m * (70 + wave(8))), f'{s}_forearm': turn(0, -m * (20 + 15 * np.sin(t)), 0)}
    return local, np.stack([10 * np.sin(t), 88 + 2 * np.cos(2 * t), np.linspace(0, 240, frames)], 1)


def positions(local, way):
    "Truth by the tree itself: {joint: (T, 3)}, mm, z up, facing -y, however the file will be written."
    R, at = {}, {}
    for k in ORDER:
        p, L = ABOVE[k], local.get(k, np.eye(3)[None])
        R[k], at[k] = (L, way) if p is None else (R[p] @ L, at[p] + R[p] @ np.array(OFFSET[k], float))
    return {k: np.stack([v[:, 0], -v[:, 2], v[:, 1]], 1) * 10 for k, v in at.items()}


def bvh_text(local, way, joint, rest=np.eye(3), world=np.eye(3), own=None, unit=1., order='ZXY', layout='hips', number='{:.5f}', end='\n', pad='\t', frames='Frames: {}'):
    """The walk as a BVH file. rest: rotates the whole file; world: only the world, as a root that carries the change; own: {joint: (3, 3)} axes of each joint;
    layout: 'hips', 'above' (a still Root over the hips, which move) or 'all' (every joint with six channels)."""
    own, T = {k: np.eye(3) for k in ORDER} | (own or {}), len(way)
    parent_axes = lambda k: np.eye(3) if ABOVE[k] is None else own[ABOVE[k]]
    offset = {k: parent_axes(k).T @ rest @ (np.array(OFFSET[k], float) if ABOVE[k] else np.zeros(3)) * unit for k in ORDER}
    turned = {k: parent_axes(k).T @ (world if ABOVE[k] is None else np.eye(3)) @ rest @ L @ rest.T @ own[k] for k, L in local.items()}
    rows, lines = [], ['HIERARCHY']
    place = 'Xposition Yposition Zposition '
    rotation = ' '.join(f'{c}rotation' for c in order)
    def write(k, depth):
        tabs = pad * depth
        if k.endswith('_end'): return lines.extend([f'{tabs}End Site', f'{tabs}{{', f'{tabs}{pad}OFFSET ' + ' '.join(map(number.format, offset[k])), f'{tabs}}}'])
        moves = layout == 'all' or ABOVE[k] is None
        lines.extend([f"{tabs}{'JOINT' if depth else 'ROOT'} {joint[k]}", f'{tabs}{{', f'{tabs}{pad}OFFSET ' + ' '.join(map(number.format, offset[k])),
                      f"{tabs}{pad}CHANNELS {6 if moves else 3} {place if moves else ''}{rotation}"])
        if moves: rows.append(way @ (world @ rest).T * unit if ABOVE[k] is None else np.tile(offset[k], (T, 1)))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # two of three angles may be one
            rows.append(Rotation.from_matrix(turned[k]).as_euler(order, degrees=True))
        for child in [c for c in ORDER if ABOVE[c] == k]: write(child, depth + 1)
        lines.append(f'{tabs}}}')
    if layout == 'above':
        lines += ['ROOT Root', '{', f'{pad}OFFSET 0 0 0', f'{pad}CHANNELS 6 {place}{rotation}']
        rows.append(np.zeros((T, 6)))
    write('hips', int(layout == 'above'))
    lines += ['}'] * (layout == 'above') + ['MOTION', frames.format(T), f'Frame Time: {1 / 30:.7f}', *(' '.join(map(number.format, r)) for r in np.concatenate(rows, 1))]
    return end.join(lines) + end


def named(pattern, **parts):
    "Names of a rig: {joint: name}, from a pattern with {side} and {part}."
    left, right = parts.pop('sides')
    middle = parts.pop('middle')
    out = {k: middle.get(k, k) for k in ORDER if k[1] != '_'}
    for s, side in (('l', left), ('r', right)): out |= {f'{s}_{k}': pattern.format(side=side, part=v) for k, v in parts.items()}
    return out


LIMBS = dict(thigh='UpLeg', shank='Leg', foot='Foot', toe='ToeBase', clavicle='Shoulder', upperarm='Arm', forearm='ForeArm', hand='Hand')
MAYA = dict(hips='Hips', spine='Spine', spine1='Spine1', neck='Neck', head='Head')
Y_TO_Z = np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]])
X_FIRST = {k: (lambda x: np.stack([x, np.roll(x, 1), np.cross(x, np.roll(x, 1))], 1))(np.eye(3)[i] * s)
           for k, (i, s) in dict(hips=(1, 1), spine=(1, 1), spine1=(1, 1), neck=(1, 1), head=(1, 1), **{f'{s}_{k}': v for s, m in (('l', 1), ('r', -1)) for k, v in
                                 dict(thigh=(1, -1), shank=(1, -1), foot=(2, 1), toe=(2, 1), clavicle=(0, m), upperarm=(0, m), forearm=(0, m), hand=(0, m)).items()}).items()}
DIALECTS = dict(
    lafan=dict(joint=named('{side}{part}', sides=('Left', 'Right'), middle=MAYA, **LIMBS)),
    mixamo=dict(joint=named('mixamorig:{side}{part}', sides=('Left', 'Right'), middle={k: f'mixamorig:{v}' for k, v in MAYA.items()}, **LIMBS), rest=Y_TO_Z, unit=.01, order='XYZ', number='{:.7f}'),
    biped=dict(joint=named('Bip01 {side} {part}', sides='LR', middle=dict(hips='Bip01', spine='Bip01 Spine', spine1='Bip01 Spine1', neck='Bip01 Neck', head='Bip01 Head'),
                           thigh='Thigh', shank='Calf', foot='Foot', toe='Toe0', clavicle='Clavicle', upperarm='UpperArm', forearm='Forearm', hand='Hand'),
               rest=np.array([[0., 0, 1], [0, 1, 0], [-1, 0, 0]]), unit=1 / 2.54, order='YXZ', layout='above', end='\r\n', frames='Frames :\t{}'),
    vrm=dict(joint=named('J_Bip_{side}_{part}', sides='LR', middle=dict(hips='J_Bip_C_Hips', spine='J_Bip_C_Spine', spine1='J_Bip_C_Chest', neck='J_Bip_C_Neck', head='J_Bip_C_Head'),
                         thigh='UpperLeg', shank='LowerLeg', foot='Foot', toe='ToeBase', clavicle='Shoulder', upperarm='UpperArm', forearm='LowerArm', hand='Hand'),
             own=X_FIRST, unit=10., order='ZYX'),
    unreal=dict(joint=named('{part}_{side}', sides='lr', middle=dict(hips='pelvis', spine='spine_01', spine1='spine_02', neck='neck_01', head='head'),
                            thigh='thigh', shank='calf', foot='foot', toe='ball', clavicle='clavicle', upperarm='upperarm', forearm='lowerarm', hand='hand'),
                world=Y_TO_Z, layout='all', number='{:.7e}', pad='  '))


def read_text_as(tmp_path, text, name='x.bvh', reader=read_bvh, **kw):
    (tmp_path / name).write_bytes(text.encode())
    return reader(tmp_path / name, **kw)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('dialect', DIALECTS)
def test_dialects_are_read_as_the_same_keypoints(tmp_path, dialect, seed):
    "Axes, order of rotations, unit, layout of the root and names differ; the keypoints are the same to 1 mm."
    motion = walk(seed)
    c, truth = read_text_as(tmp_path, bvh_text(*motion, **DIALECTS[dialect])), positions(*motion)
    role = find_roles(c.joints, c.parents)
    for k in KEYPOINTS: np.testing.assert_allclose(c.at[:, role[k]], truth[k], atol=1., err_msg=k)
    np.testing.assert_allclose(c.fps, 30, rtol=1e-4)
    m = retarget(c, 30)
    report = fit_report(c, m)
    assert report['median'] < 2 and report['p95'] < 8, report  # a drawn walk bends knees sideways by some degrees, our knees cannot
    np.testing.assert_allclose(np.ptp(m.path[:, 1]), 2.4, atol=.05)  # 2.4 m forward, legs of 0.83 m


def test_channels_of_any_joint_count(tmp_path):
    "A still Root over hips that move, and six channels on every joint, keep the way (it was 0.0 m); columns that nobody filled keep the offset."
    motion, joint = walk(), DIALECTS['lafan']['joint']
    c = read_text_as(tmp_path, bvh_text(*motion, joint, layout='above'))
    assert c.joints[0] == 'Root' and abs(np.ptp(c['Hips'][:, 1]) - 2400) < 1
    empty = bvh_text(*motion, joint, layout='all')
    head, rows = empty.split('Frame Time:')
    first, *rows = rows.strip().split('\n')
    rows = [' '.join(w if i % 6 > 2 or i < 6 else '0' for i, w in enumerate(r.split())) for r in rows]
    d = read_text_as(tmp_path, f'{head}Frame Time:{first}\n' + '\n'.join(rows))
    np.testing.assert_allclose(d['LeftFoot'], c['LeftFoot'], atol=.1)


@pytest.mark.parametrize('change, says', [
    (lambda t: t + '# end of file\n', "'#' is no number"), (lambda t: t[:t.index('MOTION')] + t[t.index('MOTION'):].replace('.', ','), 'decimal points, not commas'),
    (lambda t: t[:-9] + '-1.#IND\n', "'-1.#IND' is no number"), (lambda t: t[:-9] + ' nan\n', 'frame 39 holds no number'), (lambda t: t[:-90], 'numbers where 40 frames'),
    (lambda t: t.replace('Frame Time: 0.0333333', 'Frame Time: 30'), 'Frame Time 30 is in seconds per frame'), (lambda t: t.replace('Frames: 40', 'Frames: 1000001'), '1000001 frames are announced'),
    (lambda t: t.replace('Zrotation Xrotation', 'Zrotation Zrotation', 1), 'each once'), (lambda t: t.replace('LeftForeArm', 'Paw'), 'no joint found for l_forearm'),
    (lambda t: t.replace('MOTION', 'ROOT Other\n{\nOFFSET 0 0 0\n}\nMOTION'), '2 roots'), (lambda t: t.replace('}', '', 1), 'not complete'), (lambda t: '', 'no MOTION part')])
def test_bad_bvh_gets_one_line(tmp_path, change, says):
    with pytest.raises(CaptureError) as e: read_text_as(tmp_path, change(bvh_text(*walk(), DIALECTS['lafan']['joint'])))
    assert says in str(e.value) and str(e.value).startswith('x.bvh: ') and '\n' not in str(e.value)


def test_up_of_the_header(tmp_path):
    "A header that says which axis points up is believed; who calls the reader is believed more."
    text = bvh_text(*walk(), DIALECTS['lafan']['joint'])
    plain, z = read_text_as(tmp_path, text), read_text_as(tmp_path, '# UpAxis: Z\n' + text)
    np.testing.assert_allclose(z['Head'][:, 2], -plain['Head'][:, 1], atol=1e-6)  # the file's z, along which the walker goes
    np.testing.assert_allclose(read_text_as(tmp_path, '# UpAxis: Z\n' + text, up='y').at, plain.at)


def test_joint_called_motion(tmp_path):
    joint = DIALECTS['lafan']['joint'] | dict(spine='MOTION')
    assert 'MOTION' in read_text_as(tmp_path, bvh_text(*walk(), joint)).joints


def test_bvh_made_elsewhere(tmp_path):
    "Windows line ends, tabs, prefixes and lower-case keywords are all read."
    m = Motion({k: np.linspace(0, 20, 5) * k.startswith('l_') for k in ANGLES}, np.zeros((5, 3)), 25.)
    a = write_bvh(m, BodyPack(), 0, tmp_path / 'a.bvh'); text = a.read_text()
    for k in ('pelvis', 'l_thigh', 'r_hand'): text = text.replace(f' {k}\n', f' rig:{k}\n')
    (tmp_path / 'b.bvh').write_bytes(text.replace('  ', '\t').replace('Frame Time', 'Frame time').replace('\n', '\r\n').encode())
    np.testing.assert_allclose(read_bvh(tmp_path / 'b.bvh').at, read_bvh(a).at)


def test_sides_exchanged(tmp_path):
    "Names of left and right exchanged: the knees bend forwards, and the file is refused."
    joint = DIALECTS['lafan']['joint']
    swapped = {k: joint[{'l': 'r', 'r': 'l'}[k[0]] + k[1:]] if k[:2] in ('l_', 'r_') else v for k, v in joint.items()}
    with pytest.raises(CaptureError, match='its knees bend forwards'): read_text_as(tmp_path, bvh_text(*walk(), swapped))


# ---- ASF/AMC ----
def asf_text(thigh=7.5, angle='deg', order='TX TY TZ RX RY RZ', axis='XYZ'):
    "A small skeleton; bones of the legs are tilted, so their own axes matter."
    scale = 1 if angle == 'deg' else np.radians(1)
    bones = dict(lowerback='root 0 1 0 4', thorax='lowerback 0 1 0 4', lowerneck='thorax 0 1 0 2', head='lowerneck 0 1 0 3')
    for s, m in (('l', 1), ('r', -1)):
        bones |= {f'{s}hipjoint': f'root {m * .6} -.7 .3 2', f'{s}femur': f'{s}hipjoint {m * .342} -.94 0 {thigh}', f'{s}tibia': f'{s}femur {m * .342} -.94 0 7.2', f'{s}foot': f'{s}tibia 0 -.2 .98 2.3',
                  f'{s}clavicle': f'thorax {m * .95} .3 0 3.5', f'{s}humerus': f'{s}clavicle {m} 0 0 5', f'{s}radius': f'{s}humerus {m} 0 0 5', f'{s}hand': f'{s}radius {m} 0 0 1'}
    def bone(k, v):
        _, x, y, z, n = v.split()
        dof = AMC_DOF.get(k.lstrip('lr') if k[1:] in ('femur', 'tibia') else k[1:] if k[0] in 'lr' else k, '')
        return f"begin\n name {k}\n direction {x} {y} {z}\n length {n}\n axis 0 0 {20 * scale * (k[1:] in ('femur', 'tibia')):.9f} XYZ\n" + (f' dof {dof}\n' if dof else '') + 'end\n'
    return f':units\n length 0.45\n angle {angle}\n:root\n order {order}\n axis {axis}\n:bonedata\n' + ''.join(bone(*b) for b in bones.items()) + \
        ':hierarchy\n begin\n' + ''.join(f' {v.split()[0]} {k}\n' for k, v in bones.items()) + ' end\n'


AMC_DOF = dict(femur='rx ry rz', tibia='rx', thorax='rx ry rz', humerus='rx ry rz', radius='ry')


def amc_text(frames=20, angle='deg', root=('tx', 'ty', 'tz', 'rx', 'ry', 'rz')):
    "Somebody walks forward, turns and bends knees and elbows."
    t, unit, out = np.linspace(0, 1, frames), 1 if angle == 'deg' else np.radians(1), [':FULLY-SPECIFIED']
    for i, u in enumerate(t):
        values = dict(tx=1, ty=16, tz=20 * u, rx=5 * u * unit, ry=60 * u * unit, rz=-10 * u * unit)
        rows = dict(lfemur=(-30 * u, 5, 3), rfemur=(20 * u, 0, 0), ltibia=(40 * u,), rtibia=(20,), lhumerus=(10 * u, 0, -60), rhumerus=(0, 10, 60), lradius=(-50 * u,), rradius=(30,), thorax=(5, 10 * u, 0))
        out += [str(i + 1), 'root ' + ' '.join(f'{values[c]:.9f}' for c in root), *(f"{k} {' '.join(f'{x * unit:.9f}' for x in v)}" for k, v in rows.items())]
    return '\n'.join(out) + '\n'


def test_skeleton_by_the_exact_number(tmp_path):
    "102_01.amc takes 102.asf, not 10.asf; endings in capitals; a lone skeleton of another number is refused."
    for n, thigh in (('10', 7.), ('102', 8.)): (tmp_path / f'{n}.ASF').write_text(asf_text(thigh))
    for n, thigh in (('102', 8.), ('10', 7.)):
        c = read_text_as(tmp_path, amc_text(), f'{n}_01.AMC', read_motion)
        length = np.linalg.norm(c['ltibia'] - c['lfemur'], axis=1) / (25.4 / .45)
        np.testing.assert_allclose(length, thigh, rtol=1e-3)
    (tmp_path / '102.ASF').unlink()
    with pytest.raises(CaptureError, match=r'102_01.AMC: no skeleton \(.asf\) of this take among 10.ASF'): read_motion(tmp_path / '102_01.AMC')


def test_angle_unit_and_root_order_of_the_header(tmp_path):
    (tmp_path / '1.asf').write_text(asf_text())
    c = read_text_as(tmp_path, amc_text(), '1_01.amc', read_amc)
    order = ('rz', 'rx', 'ry', 'tz', 'ty', 'tx')
    (tmp_path / '2.asf').write_text(asf_text(angle='rad', order=' '.join(order).upper()))
    same = read_text_as(tmp_path, amc_text(angle='rad', root=order), '2_01.amc', read_amc)
    np.testing.assert_allclose(same.at, c.at, atol=1e-3)
    (tmp_path / '3.asf').write_text(asf_text(angle='rad'))  # the take itself says degrees
    np.testing.assert_allclose(read_text_as(tmp_path, ':DEGREES\n' + amc_text(), '3_01.amc', read_amc).at[:, 0], c.at[:, 0], atol=1e-3)
    (tmp_path / '4.asf').write_text(asf_text(axis='ZYX'))
    turned = read_text_as(tmp_path, amc_text(), '4_01.amc', read_amc)
    want = Rotation.from_euler('zyx', [-10, 60, 5], degrees=True).as_matrix()  # about fixed axes, z first, y up
    to_ours = np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(turned.R[-1, 0], to_ours @ want @ to_ours.T, atol=1e-6)


# ---- the command ----
def archive(folder, n=4, frames=60):
    folder.mkdir()
    for i in range(n): write_bvh(draw_motion(np.random.default_rng(i), frames, 30.), BodyPack(), i, folder / f'take_{i}.bvh')
    return folder


def test_motions_command(tmp_path):
    "Bad files are named and left out, each take's fit is said, the good ones are packed."
    source = archive(tmp_path / 'archive')
    good = (source / 'take_0.bvh').read_text()
    (source / 'broken.bvh').write_text('HIERARCHY'); (source / 'notes.txt').write_text('not a motion')
    (source / 'comment.bvh').write_text(good + '# end\n'); (source / 'ind.bvh').write_text(good[:-9] + '-1.#IND\n'); (source / 'folder.bvh').mkdir()
    out = tmp_path / 'm.safetensors'
    r = command('solopose_motions', source, '--out', out, '--fps', 30)
    assert r.returncode == 0, r.stderr
    for bad in ('broken.bvh: no MOTION part', 'notes.txt: no table of Frames', 'comment.bvh: line ', "ind.bvh: line ", 'folder.bvh: a folder, not a file'): assert f'left out: {bad}' in r.stdout
    assert re.search(r'take_0 +2\.0 s   bones off by 0\.\d\d degrees \(median\), \d\.\d \(95 %\), \d\.\d % of angles at a limit', r.stdout) and '4 takes' in r.stdout
    pack = MotionPack(out)
    assert len(pack) == 4 and not Path(f'{out}.parts').exists() and all(k['median'] < 1 and k['p95'] < 8 for k in pack.takes)


def test_motions_command_names(tmp_path):
    "Joints whose names tell nothing are given in a file; without it the take is left out, and nothing is left: exit 2."
    source = tmp_path / 'a'; source.mkdir()
    (source / 'odd.bvh').write_text(bvh_text(*walk(), DIALECTS['lafan']['joint'] | dict(l_hand='Paw')))
    names, out = tmp_path / 'names.json', tmp_path / 'm.safetensors'
    r = command('solopose_motions', source, '--out', out)
    assert r.returncode == 2 and 'none of its 1 files could be used' in r.stderr and 'l_hand' in r.stderr and 'Traceback' not in r.stderr and not out.exists()
    (source / 'plain.bvh').write_text(bvh_text(*walk(), DIALECTS['lafan']['joint']))  # has no Paw and needs none
    names.write_text(json.dumps(dict(l_hand='Paw')))
    r = command('solopose_motions', source, '--out', out, '--names', names)
    assert r.returncode == 0 and '2 takes' in r.stdout and 'left out' not in r.stdout, r.stderr
    names.write_text(json.dumps(dict(left_paw='Paw')))
    r = command('solopose_motions', source, '--out', out, '--names', names)
    assert r.returncode == 2 and "names has the role 'left_paw'" in r.stderr
    names.write_text('Paw')
    r = command('solopose_motions', source, '--out', out, '--names', names)
    assert r.returncode == 2 and 'names.json: no JSON' in r.stderr and 'Traceback' not in r.stderr


def test_a_take_that_does_not_fit_is_left_out(tmp_path):
    "Knees that bend forwards half of the time: no person, so not in the pack."
    source = archive(tmp_path / 'archive', 1)
    local, way = walk(frames=80)
    for s in 'lr': local[f'{s}_shank'] = Rotation.from_rotvec(np.where(np.arange(80) < 40, 70, -65)[:, None] * [1, 0, 0], degrees=True).as_matrix()
    (source / 'wrong.bvh').write_text(bvh_text(local, way, DIALECTS['lafan']['joint']))
    left = build_motion_pack(source, tmp_path / 'm.safetensors', 30)
    assert [f.name for f, _ in left] == ['wrong.bvh'] and 'wrong.bvh: does not fit: bones off by' in left[0][1]


@pytest.mark.parametrize('args, says', [(['nowhere'], 'nowhere: no .bvh'), (['empty'], 'empty: no .bvh'), (['empty', '--fps', '0'], '--fps 0')])
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
    slowly = 'import time, solopose.synth.mocap as m; keep = m._keep_take; m._keep_take = lambda *a: (keep(*a), time.sleep(1)); '
    p = subprocess.Popen([sys.executable, '-c', slowly + code, str(source), str(out)], stderr=subprocess.DEVNULL)
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


# ---- fuzz ----
def mutated(text, rng):
    "A text with one to four kinds of damage that files suffer."
    strange = ('nan', 'inf', '1e308', '-1e308', '1e999', '0', '-1', '999999999999', '1,5', '-1.#IND', '{', '}', 'MOTION', 'JOINT', 'End Site', 'OFFSET', 'CHANNELS 3', 'Frames:', '\x00', '\ufffd', ':root', 'begin', 'end', 'root', '#')
    for _ in range(rng.integers(1, 4)):
        i, j = sorted(rng.integers(0, len(text) + 1, 2))
        words, lines, kind = list(re.finditer(r'\S+', text)), text.split('\n'), rng.choice(9, p=(.05, .05, .2, .1, .05, .05, .05, .05, .4))
        w = words[rng.integers(len(words))] if words else None
        line, other = rng.integers(len(lines), size=2)
        if kind == 0: text = text[:i] + text[min(j, i + 200):]
        elif kind == 1: text = text[:i]
        elif kind == 2 and w: text = text[:w.start()] + str(rng.choice(strange)) + text[w.end():]
        elif kind == 3 and w: text = text[:w.start()] + text[w.end():]
        elif kind == 4: text = '\n'.join(lines[:line] + [lines[other]] + lines[line:])
        elif kind == 5: text = '\n'.join(lines[:line] + lines[line + 1:])
        elif kind == 6: text = text[:i] + bytes(rng.integers(0, 256, 4, 'uint8')).decode('latin-1') + text[i:]
        elif kind == 7: lines[line], lines[other] = lines[other], lines[line]; text = '\n'.join(lines)
        elif kind == 8:  # another number where one stands
            numbers = [w for w in words if re.fullmatch(r'-?\d+\.\d+(e[-+]\d+)?', w.group())]
            if numbers: w = numbers[rng.integers(len(numbers))]; text = f'{text[:w.start()]}{float(w.group()) * rng.choice([-1, 0, 10, 1e6]) + rng.normal():.5f}{text[w.end():]}'
    return text


def fuzz_one(kind, seed, folder):
    "Read one mutated file; returns how it ended. Anything but a right value or a ValueError of one line is raised."
    rng = np.random.default_rng([dict(bvh=0, asf=1)[kind], seed])
    if kind == 'bvh':
        name = str(rng.choice(list(DIALECTS)))
        file, text = folder / 'x.bvh', mutated(bvh_text(*walk(seed % 7, 8), **DIALECTS[name]), rng)
    else:
        which, file, amc, asf = rng.integers(3), folder / '1_1.amc', amc_text(6), asf_text()
        (folder / '1.asf').write_text(mutated(asf, rng) if which != 0 else asf, errors='replace')
        text = mutated(amc, rng) if which != 1 else amc
    file.write_text(text, errors='replace')
    try: m = retarget(read_motion(file), 30)
    except ValueError as e:
        one_line(e)
        return 'refused'
    assert np.isfinite(m.array).all() and np.isfinite(m.path).all()
    return 'read'


FAILED = dict(bvh=(), asf=())  # seeds that once failed


@pytest.mark.parametrize('kind, seed', [(k, s) for k, seeds in FAILED.items() for s in (*seeds, *range(40))])
def test_mutated_file(tmp_path, kind, seed): assert ended(fuzz_one, kind, seed, tmp_path)[1] is None


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['bvh', 'asf'])
def test_fuzz(kind):
    "2,000 mutated files of each kind: no traceback, no hang over 10 s, memory under 1 GiB."
    fuzz('test_motion', kind, told='error', read=100, refused=500)
