"Numbers in every form that people hand over: the right answer, or one clear line."
import copy

import numpy as np
import pytest
import torch

from solopose.cameras import Camera, project, unproject, world_to_camera
from solopose.config import make_config
from solopose.heatpose import HeatPose
from solopose.kabsch import apply_rigid, kabsch, umeyama
from solopose.metrics import constant_pose, mpjpe, p_mpjpe, pck
from solopose.network import SoloPose
from solopose.poses import convert_joints, facing, flip
from solopose.skeleton import COCO_17, SKELETON, standing_pose
from solopose.universal import fit_universal, to_universal

rng = np.random.default_rng(0)
TURN = np.linalg.qr(rng.normal(size=(3, 3)))[0]
TURN *= np.linalg.det(TURN)
PERSON = standing_pose() + rng.normal(0, 20, (5, 15, 3))
THERE = PERSON @ TURN.T + [10., 20, 30]
K = [[1000, 0, 500], [0, 1000, 500], [0, 0, 1]]


def backwards(x): return x[..., ::-1].copy()[..., ::-1]
def masked(x): return np.ma.masked_array(x, np.zeros(x.shape, bool))


def readonly(x):
    x = x.copy()
    x.flags.writeable = False
    return x


SAME = dict(backwards=backwards, reversed_rows=lambda x: x[::-1].copy()[::-1], fortran=np.asfortranarray,
            readonly=readonly,
            foreign=lambda x: x.astype('>f8'), foreign_single=lambda x: x.astype('>f4'),
            single=lambda x: x.astype('f4'), wide=lambda x: x.astype(np.longdouble),
            masked=masked, lists=lambda x: x.tolist(), tensor=torch.tensor,
            tensor_single=lambda x: torch.tensor(x).float())
WRONG = dict(text=np.full((5, 15, 3), 'left'), complex_numbers=PERSON * 1j, objects=np.full((5, 15, 3), None),
             complex_tensor=torch.tensor(PERSON * 1j))
READS = dict(
    kabsch=lambda x: kabsch(x, THERE)[0], kabsch_second=lambda x: kabsch(THERE, x)[1],
    umeyama=lambda x: umeyama(x, THERE)[2],
    flip=flip, convert=lambda x: convert_joints(x, SKELETON),
    facing=facing,
    world_to_camera=lambda x: world_to_camera(x, Camera(K, TURN, [0, 0, 4000])),
    project=lambda x: project(x, Camera(K)),
    universal=lambda x: fit_universal(x, key=0, check=False).R,
    to_universal=lambda x: to_universal(x, fit_universal(PERSON, key=0, check=False)),
    target=lambda x: HeatPose().target(x), constant=constant_pose)


@pytest.mark.parametrize('form', SAME)
@pytest.mark.parametrize('read', READS)
@pytest.mark.filterwarnings('error')
def test_same_numbers(read, form):
    "The same points in another form give the same answer, without a warning."
    points = SAME[form](PERSON)
    want, got = (np.asarray(READS[read](x), float) for x in (PERSON, points))
    single = 'single' in form or read == 'target'
    np.testing.assert_allclose(got, want, rtol=2e-3 if single else 1e-9,
                               atol=2e-3 * np.nanmax(np.abs(want)) if single else 1e-6)


@pytest.mark.parametrize('what', WRONG)
@pytest.mark.parametrize('read', [k for k in READS if k not in ('universal', 'to_universal')])
def test_no_numbers(read, what):
    "What is no real number is refused in one line that says so."
    with pytest.raises(ValueError, match='give real numbers') as e: READS[read](WRONG[what])
    assert '\n' not in str(e.value)


def test_masked_points_are_missing():
    points = np.ma.masked_array(PERSON, np.zeros(PERSON.shape, bool))
    points[0, 3] = np.ma.masked
    with pytest.raises(ValueError,
                       match=r'item \(0,\) \(1 of 5\): a has NaN or infinite coordinates; give such points '
                             r'weight 0'):
        kabsch(points, THERE)
    R, _ = kabsch(points, THERE, ~points.mask.any(-1))
    np.testing.assert_allclose(R, np.broadcast_to(TURN, R.shape), atol=1e-9)


def test_kabsch_keeps_kind_and_precision():
    for x, dtype in ((PERSON.astype('>f4'), np.float32), (PERSON.astype('f2'), np.float16),
                     (PERSON.astype(int), np.float64)):
        R, t = kabsch(x, x)
        assert R.dtype == t.dtype == dtype and R.dtype.isnative and abs(R - np.eye(3)).max() < 1e-3
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert kabsch(*[torch.tensor(PERSON).to(dtype)] * 2)[0].dtype == dtype
    assert [x.shape for x in kabsch(PERSON[:0], THERE[:0])] == [(0, 3, 3), (0, 3)]
    assert [x.shape for x in kabsch(PERSON[:0, :3], THERE[:0, :3])] == [(0, 3, 3), (0, 3)]


def test_three_points_in_every_form():
    for make in SAME.values():
        a, b = make(PERSON[:, :3]), THERE[:, :3]
        R, t = (np.asarray(x, float) for x in kabsch(a, b))
        np.testing.assert_allclose(apply_rigid(PERSON[:, :3], R, t), b, atol=.5)


def test_metrics_in_16_bits_do_not_overflow():
    "A difference of 300 mm squared is more than a half float can hold."
    for kind in (lambda x: x.astype('f2'), lambda x: torch.tensor(x).half(),
                 lambda x: torch.tensor(x).bfloat16()):
        a, b = kind(np.zeros((2, 15, 3))), kind(np.full((2, 15, 3), 300.))
        assert abs(float(mpjpe(a, b)) - 300 * 3 ** .5) < 1
        assert abs(float(p_mpjpe(kind(PERSON), kind(THERE)))) < 5 and float(pck(a, b)) == 0
    assert float(mpjpe(np.zeros((2, 15, 3), int), np.full((2, 15, 3), 2, 'uint8'))) == pytest.approx(2
        * 3 ** .5)
    with pytest.raises(ValueError, match='no joint is left to measure: there is no pose'):
        mpjpe(PERSON[:0], PERSON[:0])


def test_cameras_compare_and_far_points_have_no_picture():
    assert Camera(K, size=(3, 4)) == copy.deepcopy(Camera(K, size=(3, 4))) and Camera(K) != Camera(K,
        size=(3, 4)) and Camera(K) != 'a camera'
    with np.errstate(all='raise'):
        uv = project([[0, 0, 1000], [np.inf, 0, 1], [0, np.nan, 1], [0, 0, np.inf], [0, 0, 0], [0, 0, -1]],
                     Camera(K))
    assert uv[0].tolist() == [500, 500] and np.isnan(uv[1:]).all()
    assert project(np.zeros((0, 15, 3)), Camera(K)).shape == (0, 15, 2) and unproject(np.zeros((0, 2)), 1.,
        K).shape == (0, 3)


# ---------------------------------------------------------------- the network

SMALL = dict(image_size=64, width=48, depth=2, heads=2, window=(4, 4, 4), volume=(8, 8, 8), sigma=220.)


@pytest.fixture(scope='module', params=['heatpose', 'mse', 'paper'])
def model(request):
    torch.manual_seed(0)
    extra = (dict(layout='paper', frames=3, window=(1, 4, 4)) if request.param == 'paper'
             else dict(loss=request.param))
    net = SoloPose(make_config(**{**SMALL, **extra}))
    for p in (net.head.points if extra.get('loss') == 'mse' else net.head.conv3).parameters():
        torch.nn.init.normal_(p, std=.3)
    return net.eval()


@pytest.fixture(scope='module')
def film():
    return torch.randint(256, (2, 3, 3, 64, 64), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(1))


def joints(net, frames):
    with torch.no_grad(): return net.decode(net(frames), 'sharp')


@pytest.mark.parametrize('change, close', [
    (lambda m, x: (m, (x * 255).round().byte()), 1e-3),
    (lambda m, x: (m, x.double()), 1e-3),
    (lambda m, x: (m, x.mT.contiguous().mT), 1e-3),
    (lambda m, x: (m.double(), x), 1e-2),
    (lambda m, x: (m.half(), x), 30.),
    (lambda m, x: (m.half(), (x * 255).round().byte()), 30.),
    (lambda m, x: (m.bfloat16(), x), 150.),
    (lambda m, x: (m.bf16(), (x * 255).round().byte()), 150.),
], ids=['uint8', 'double frames', 'strides', 'double()', 'half()', 'half() of uint8', 'bfloat16()',
        'bf16() of uint8'])
def test_network_takes_any_numbers(model, film, change, close):
    "Joints in mm as from floats in 0..1, to what the type can hold."
    x = film / 255
    want, sure = joints(model, x)
    got, sure_too = joints(*change(copy.deepcopy(model), x))
    assert got.shape == want.shape and (got.float() - want).norm(dim=-1).mean() < close and (
        sure_too.float() - sure).abs().max() < .2


def test_empty_batch(model, film):
    for x in (film[:0], film[:0] / 255):
        p, sure = joints(model, x)
        assert p.shape == (0, 3, 15, 3) and sure.shape == (0, 3, 15)
    out = model(film[:0])
    loss = model.loss(out, torch.zeros(0, 3, 15, 3))
    assert loss == 0
    loss.backward()


@pytest.mark.parametrize('frames, says', [
    (torch.zeros(1, 3, 3, 64, 64, dtype=torch.int64),
     'frames are torch.int64; give floats in 0..1, or uint8 in 0..255'),
    (torch.zeros(1, 3, 1, 64, 64), r'frames are \(3, 1, 64, 64\)'),
    (torch.zeros(1, 3, 3, 48, 64), r'needs \(N, 3, 64, 64\) in 0..1'),
    (torch.zeros(3, 3, 64, 64), r'a batch of clips is \(B, T, 3, S, S\)')])
def test_frames_that_are_none(model, frames, says):
    with pytest.raises(ValueError, match=says): model(frames)


def test_frames_of_nan_are_not_answered(model, film):
    "A picture that holds no numbers has no pose: NaN and no confidence."
    p, sure = joints(model, film / 255 * float('nan'))
    assert p.isnan().all() and (sure == 0).all()


# ---------------------------------------------------------------- volumes

@pytest.fixture(scope='module')
def hp(): return HeatPose(size=(8, 10, 12))


@pytest.mark.parametrize('how', ['local', 'argmax', 'expectation', 'sharp'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_spoilt_volume_is_not_answered(hp, how, bad):
    x = hp.target(torch.tensor(PERSON[:2]).float()).clamp_min(1e-30).log()
    want, sure = hp.decode(x, how)
    x[1, 4, 2, 3, 5] = bad
    p, confidence = hp.decode(x, how)
    assert p[1, 4].isnan().all() and confidence[1, 4] == 0 and p.isnan().sum() == 3
    keep = ~p.isnan().any(-1)
    assert torch.equal(p[keep], want[keep]) and torch.equal(confidence[keep], sure[keep])


def test_volumes_of_other_types(hp):
    x = hp.target(torch.tensor(PERSON[:2]).float()).clamp_min(1e-30).log().clamp_min(-60)
    want = hp.decode(x)[0]
    for y, close in ((x.double(), 1e-2), (x.half(), 10.), (x.bfloat16(), 60.), (x.numpy(), 1e-2),
                     (x.numpy().astype('>f4'), 1e-2),
                     (x[..., ::2, :].repeat_interleave(2, -2).mT.contiguous().mT * 0 + x, 1e-2)):
        assert (hp.decode(y)[0] - want).norm(dim=-1).mean() < close
    assert (hp.decode((20 * x).round().int())[0] - want).norm(dim=-1).mean() < 60
    everything_forbidden = torch.full((15, 12, 10, 8), -float('inf'))
    assert hp.decode(everything_forbidden)[0].isnan().all()
    some_forbidden = torch.where(x < -40, -float('inf'), x)
    assert (hp.decode(some_forbidden, 'argmax')[0] - hp.decode(x, 'argmax')[0]).abs().max() == 0
    p, confidence = hp.decode(x[:0])
    assert p.shape == (0, 15, 3) and confidence.shape == (0, 15)


def test_loss_of_other_types(hp):
    x, truth = (torch.randn(2, 15, 12, 10, 8, generator=torch.Generator().manual_seed(0)),
                torch.tensor(PERSON[:2]).float())
    want = hp.cross_entropy(x, truth).item()
    for y, t in ((x.half(), truth), (x.bfloat16(), truth), (x.double(), truth), (x, truth.half()),
                 (x, PERSON[:2].astype('>f8')), (x.transpose(0, 1).contiguous().transpose(0, 1), truth)):
        assert hp.cross_entropy(y, t).item() == pytest.approx(want, abs=2e-2)
    spoilt = truth.clone()
    spoilt[0, 3], spoilt[1, 2] = float('nan'), float('inf')
    mask = np.ones((2, 15), bool)
    mask[0, 3] = mask[1, 2] = False
    assert hp.cross_entropy(x, spoilt).item() == pytest.approx(hp.cross_entropy(x, spoilt, mask).item(),
        abs=1e-6)
    assert hp.cross_entropy(x[:0], truth[:0]) == 0 and hp.cross_entropy(x, truth * float('nan')) == 0
    assert not hp.cross_entropy(torch.full_like(x, float('inf')), truth).isfinite()


def test_skeletons_say_which_joints(): 
    with pytest.raises(ValueError, match="are not 'coco_17': axis -2 must have 17 joints"):
        convert_joints(PERSON, COCO_17)
    with pytest.raises(ValueError, match="are not 'solopose15'"): flip([1., 2.])
