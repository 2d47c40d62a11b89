"Films as people have them: what comes out has the right value, or one clear line and exit code 2."
import io, json, os, subprocess, sys, threading, warnings
from fractions import Fraction
from pathlib import Path
import numpy as np
import pytest
from PIL import Image, ImageOps
from conftest import ROOT, console, make_video, pixels
from solopose.video.frames import read_video
from solopose.video.write import VideoError, write_video

CASES = next((p / 'shared' / 'cases' for p in ROOT.parents if (p / 'shared' / 'cases').is_dir()), None)


def case(name):
    "A file of the collection of cases, where it is at hand."
    if CASES is None or not (CASES / name).exists(): pytest.skip(f'{name} is not here')
    return CASES / name


def read(path, **kw):
    "All frames, their times and the warnings of a film."
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        frames, times = read_video(path, **kw).load()
    return frames, times, [str(w.message) for w in told]


def numbered(n=20, width=128, height=96):
    "Frames whose grey is 8 k."
    return np.stack([np.full((height, width, 3), 8 * k % 256, 'uint8') for k in range(n)])


def who(frames): return [round(float(np.median(f)) / 8) for f in frames]


def encode(path, *tracks, codec='libx264', default=None, pix_fmt='yuv420p', options=None, rate=25):
    "A file with a track for each array of frames."
    import av
    with av.open(str(path), 'w') as c:
        streams = [c.add_stream(codec, rate=rate, options=options or {}) for _ in tracks]
        for k, (s, frames) in enumerate(zip(streams, tracks)):
            s.height, s.width, s.pix_fmt = *frames.shape[1:3], pix_fmt
            if default is not None: s.disposition = av.stream.Disposition.default if k == default else 0
        for s, frames in zip(streams, tracks):
            for k, a in enumerate(frames):
                f = av.VideoFrame.from_ndarray(np.ascontiguousarray(a))
                f.pts, f.time_base = k, Fraction(1, rate)
                c.mux(s.encode(f))
            c.mux(s.encode())
    return path


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'mov', 'ts'])
@pytest.mark.parametrize('first, default', [('thumbnail', 0), ('thumbnail', 1), ('black', 1), ('rendition', 0), ('rendition', 1)])
def test_the_track_that_is_the_film(tmp_path, suffix, first, default):
    "A thumbnail, a black track that is not the default, or a small rendition comes first: the film is read, and a line says which track."
    if suffix == 'ts' and first == 'black': pytest.skip('MPEG-TS has no default track')
    film = numbered()
    wrong = dict(thumbnail=film[9:10], black=film * 0, rendition=film[:, ::4, ::4])[first]
    frames, _, told = read(encode(tmp_path / f'two.{suffix}', wrong, film, default=default))
    assert frames.shape[1:3] == (96, 128) and who(frames) == list(range(20))
    assert len(told) == 1 and 'number 1 is read' in told[0] and 'two.' in told[0], told


def read_data(path, n, size, step=1):
    "Every `step`-th of the first n frames as a reader of data sets cuts them out of a film of 25 frames/s."
    from solopose.data.film import Film
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        film = Film(path)
    frames, box = film.read(np.arange(0, n, step) / 25, size=size)
    return film, frames


def test_readers_of_data_take_the_same_track(tmp_path):
    film, frames = read_data(encode(tmp_path / 'two.mp4', numbered()[9:10], numbered(), default=0), 20, 128)
    assert film.stream.index == 1 and film.size == (128, 96)
    assert who(frames[:, 16:112]) == list(range(20))


def photo(orientation, size=(64, 48)):
    "A JPEG (bytes) whose stored upper left corner is red, with an EXIF orientation."
    a = np.full((*size[::-1], 3), 90, 'uint8')
    a[:size[1] // 2, :size[0] // 2] = 220, 0, 0
    exif, out = Image.Exif(), io.BytesIO()
    exif[271], exif[274] = 'ACME', orientation
    Image.fromarray(a).save(out, 'JPEG', exif=exif, quality=95)
    return out.getvalue()


def seen(jpeg): return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))).convert('RGB'), float)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    "A photo, and motion JPEG made of it, come out as Pillow shows the photo."
    import av
    jpeg = photo(orientation)
    (tmp_path / 'photo.jpg').write_bytes(jpeg)
    with av.open(str(tmp_path / 'film.avi'), 'w') as c:
        s = c.add_stream('mjpeg', rate=25)
        s.width, s.height, s.pix_fmt = 64, 48, 'yuvj420p'
        for k in range(4):
            p = av.Packet(jpeg)
            p.stream, p.pts, p.dts, p.time_base, p.is_keyframe = s, k, k, Fraction(1, 25), True
            c.mux(p)
    for name, n in ('photo.jpg', 1), ('film.avi', 4):
        frames, _, _ = read(tmp_path / name)
        assert frames.shape == (n, *seen(jpeg).shape)
        assert np.abs(frames[-1] - seen(jpeg)).mean() < 4


def test_case_exif():
    frames, times, _ = read(case('exif_frames/exif_mjpeg.avi'))
    assert frames.shape == (80, 288, 288, 3) and np.allclose(np.diff(times), .04)


def test_case_two_tracks():
    frames, _, told = read(case('two_video_streams/thumb0.mp4'))
    assert len(frames) == 80 and 'number 1 is read' in told[0]


def test_case_colon():
    frames, times, told = read(case('colon_in_name/2026-05-03T12:30:11.mp4'))
    assert len(frames) == 80 and np.allclose(np.diff(times), .04) and not told


def test_clock_that_starts_again(tmp_path):
    "Two recordings joined with cat, also where the second one's clock is far ahead: 40 frames at 25 per second."
    import av
    encode(tmp_path / 'a.ts', numbered())
    with av.open(str(tmp_path / 'b.ts'), 'w') as c: # the same, an hour later
        with av.open(str(tmp_path / 'a.ts')) as src:
            s = c.add_stream_from_template(src.streams.video[0])
            for p in src.demux(video=0):
                if p.dts is None: continue
                p.pts, p.dts, p.stream = p.pts + 3600 * 90_000, p.dts + 3600 * 90_000, s
                c.mux(p)
    a, b = ((tmp_path / f'{n}.ts').read_bytes() for n in 'ab')
    for name, joined in dict(again=a + a, ahead=a + b, back=b + a).items():
        (tmp_path / f'{name}.ts').write_bytes(joined)
        video = read_video(tmp_path / f'{name}.ts')
        frames, times, _ = read(tmp_path / f'{name}.ts')
        assert who(frames) == list(range(20)) * 2, name
        assert np.allclose(times, np.arange(40) / 25, atol=2e-3) and np.allclose(video.times, times, atol=2e-3), name
        assert abs(video.fps - 25) < .01


@pytest.mark.filterwarnings('ignore')
def test_cut_fragments(tmp_path):
    "A fragmented film cut in the middle: the rate of the frames that come out is 25."
    import av
    from solopose.video.times import rate_of
    with av.open(str(tmp_path / 'whole.mp4'), 'w', options={'movflags': 'frag_keyframe+empty_moov+default_base_moof'}) as c:
        s = c.add_stream('libx264', rate=25, options={'g': '10', 'bf': '2'})
        s.height, s.width, s.pix_fmt = 96, 128, 'yuv420p'
        for k, a in enumerate(pixels(60, 128, 96)):
            f = av.VideoFrame.from_ndarray(a)
            f.pts, f.time_base = k, Fraction(1, 25)
            c.mux(s.encode(f))
        c.mux(s.encode())
    whole = (tmp_path / 'whole.mp4').read_bytes()
    for share in .4, .65, .9:
        (tmp_path / 'cut.mp4').write_bytes(whole[:int(len(whole) * share)])
        times = np.array([t for t, _ in read_video(tmp_path / 'cut.mp4').timed()])
        assert 5 < len(times) < 60 and abs(rate_of(times) - 25) < .01


@pytest.mark.filterwarnings('ignore')
def test_case_fragments():
    from solopose.video.times import rate_of
    times = np.array([t for t, _ in read_video(case('fps_attribute/frag_trunc.mp4')).timed()])
    assert abs(rate_of(times) - 25) < .01 and np.allclose(np.diff(times), .04, atol=1e-3)


def test_pictures(tmp_path):
    "A folder, counting patterns, globs and one photo; the rate is the one asked for; numbers count, not letters."
    for k in range(12): Image.fromarray(numbered()[k]).save(tmp_path / f'shot {k}.png')
    (tmp_path / 'notes.txt').write_text('not a picture')
    for what in '.', 'shot %d.png', 'shot %03d.png', 'shot *.png', '*':
        frames, times, _ = read(tmp_path / what, fps=5)
        assert who(frames) == list(range(12)) and np.allclose(times, np.arange(12) / 5), what
    assert who(read(tmp_path / 'shot 7.png')[0]) == [7]
    deep = Image.fromarray((numbered()[5][..., 0].astype('uint16') * 257))
    deep.save(tmp_path / 'deep.png')
    assert who(read(tmp_path / 'deep.png')[0]) == [5]
    for wrong in 'shot%d.png', 'other*.png': # neither is there
        with pytest.raises(VideoError, match='no such file'): read_video(tmp_path / wrong)


def halves():
    "A bar that moves 4 px between the half pictures of a frame."
    a = np.zeros((10, 96, 128, 3), 'uint8')
    for k in range(10):
        a[k, 0::2, 10 + 8 * k:40 + 8 * k] = 255
        a[k, 1::2, 14 + 8 * k:44 + 8 * k] = 255
    return a


def comb(x): return np.abs(np.diff(x[..., 20:-20, :, 0].astype(float), axis=-2)).mean()


def test_interlaced(tmp_path):
    "Half pictures become whole ones: as many frames, at the same times, without combs."
    path = encode(tmp_path / 'halves.mpg', halves(), codec='mpeg2video', options={'flags': '+ildct+ilme', 'top': '1'})
    frames, times, _ = read(path)
    assert len(frames) == 10 and np.allclose(times, np.arange(10) / 25, atol=1e-3)
    assert comb(frames[2:-2]) < .15 * comb(halves()[2:-2])


@pytest.mark.parametrize('suffix', ['mpg', 'avi', 'mkv', 'mp4'])
def test_readers_of_data_deinterlace(tmp_path, suffix):
    "The same frames as `read_video` gives, in every container, also after a seek and for every second frame."
    path = encode(tmp_path / f'halves.{suffix}', halves(), codec='mpeg2video', options={'flags': '+ildct+ilme', 'top': '1'})
    frames, (want, _, _) = read_data(path, 10, 128)[1][:, 16:112], read(path)
    assert comb(frames[2:-2]) < .15 * comb(halves()[2:-2])
    np.testing.assert_array_equal(frames, want)
    np.testing.assert_array_equal(read_data(path, 10, 128, step=2)[1][:, 16:112], want[::2])


GREYS = np.array([0, 20, 60, 128, 200, 255])


def hdr_film(path, trc, n=3):
    "A film of grey bars of 16 px, in PQ (trc 16) or HLG (18), white at 203 cd/m2 (ITU-R BT.2100, BT.2408)."
    import av
    light = 203 * (GREYS / 255) ** 2.4
    if trc == 16: code = ((.8359375 + 18.8515625 * (y := (light / 1e4) ** .1593017578125)) / (1 + 18.6875 * y)) ** 78.84375
    else:
        scene = (light / 1000) ** (1 / 1.2)
        code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), .17883277 * np.log(np.maximum(12 * scene - .28466892, 1e-9)) + .55991073)
    grey = np.tile((code * 876 + 64).round().repeat(16), (32, 1))
    with av.open(str(path), 'w') as c:
        s = c.add_stream('ffv1', rate=25)
        s.height, s.width, s.pix_fmt, s.codec_context.color_trc = *grey.shape, 'yuv444p10le', trc
        s.codec_context.color_primaries = s.codec_context.colorspace = 9
        for k in range(n):
            f = av.VideoFrame(*grey.shape[::-1], 'yuv444p10le')
            for plane, a in zip(f.planes, (grey, grey * 0 + 512, grey * 0 + 512)):
                rows = np.zeros((len(a), plane.line_size // 2), '<u2')
                rows[:, :a.shape[1]] = a
                plane.update(rows.tobytes())
            f.color_trc, f.color_primaries, f.colorspace, f.color_range, f.pts, f.time_base = trc, 9, 9, 1, k, Fraction(1, 25)
            c.mux(s.encode(f))
        c.mux(s.encode())
    return path


@pytest.mark.parametrize('trc', [16, 18])
def test_hdr(tmp_path, trc):
    "Greys of a PQ and of an HLG film come out as they were meant, in films and in crops of data sets."
    path = hdr_film(tmp_path / 'hdr.mkv', trc)
    for frame in read(path)[0][1], read_data(path, 3, 96)[1][1, 32:64], read_data(path, 3, 96)[1][0, 32:64]:
        assert np.abs(frame[16, 8::16].astype(int) - GREYS[:, None]).max() <= 3, frame[16, 8::16]


@pytest.mark.parametrize('height', [480, 720])
def test_colours_of_crops(tmp_path, height):
    "A crop has the colours of the whole frame: those of television from 720 rows on, though the crop is small."
    red = np.full((6, height, height, 3), (220, 30, 20), 'uint8')
    path = encode(tmp_path / 'red.mp4', red)
    want = read(path)[0][2, height // 2, height // 2].astype(int)
    crop = read_data(path, 1, 64)[0].read([.08], (100, 100, 164, 164), 64)[0][0, 32, 32]
    assert np.abs(crop - want).max() <= 1, (crop, want)


def stay_open(path, n, wait=0):
    "Write a film into a pipe, slowly."
    with open(path, 'wb') as f: f.write(n)


@pytest.mark.skipif(os.name != 'posix', reason='pipes with names')
@pytest.mark.filterwarnings('ignore')
def test_pipe(tmp_path):
    film = encode(tmp_path / 'film.mkv', numbered()).read_bytes()
    os.mkfifo(tmp_path / 'pipe')
    writer = threading.Thread(target=stay_open, args=(tmp_path / 'pipe', film), daemon=True)
    writer.start()
    assert who(read(tmp_path / 'pipe')[0]) == list(range(20))
    with pytest.raises(VideoError, match='record it into a file'): read_video('/dev/zero')


# The command, in fresh processes

def solopose(line, cwd, **env):
    "A shell line of the command: its CompletedProcess, in bytes."
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    env = clean | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='') | env
    line = f'"{console("solopose_demo")}" {line}'
    return subprocess.run(line, shell=True, cwd=cwd, env=env, capture_output=True, timeout=300)


def poses(folder):
    import xarray as xr
    with xr.open_dataset(Path(folder) / 'poses.nc', engine='h5netcdf') as ds: return ds.load()


@pytest.mark.skipif(os.name != 'posix', reason='shell and names of Unix')
def test_names_and_consoles(tmp_path):
    "A name that looks like an address and is no UTF-8, an out folder in Cyrillic, a cp1252 console, a closed stderr: all is written."
    name = os.fsdecode(b'12:30 t\xe4nzer.mp4')
    make_video(tmp_path / 'film.mp4', n=6)
    os.rename(tmp_path / 'film.mp4', tmp_path / name)
    got = solopose(f'*.mp4 --out результаты --max_frames 4 2>&-', tmp_path, PYTHONIOENCODING='cp1252', PYTHONUTF8='0')
    assert got.returncode == 0, got
    ds = poses(tmp_path / 'результаты')
    assert ds.sizes['time'] == 4 and ds.attrs['source_file'] == '12:30 t\ufffdnzer.mp4'
    assert json.loads((tmp_path / 'результаты' / 'poses.json').read_text(encoding='utf-8'))['source_file'] == ds.attrs['source_file']
    assert b'poses.html' in got.stdout and b'Traceback' not in got.stdout


@pytest.mark.skipif(os.name != 'posix', reason='shell and pipes of Unix')
def test_pipes_of_the_command(tmp_path):
    "A film through standard input; a pipe that nobody writes to ends in one line and does not hang."
    encode(tmp_path / 'film.mkv', pixels(5))
    got = solopose('- --out out < film.mkv', tmp_path)
    assert got.returncode == 0 and poses(tmp_path / 'out').sizes['time'] == 5, got
    os.mkfifo(tmp_path / 'silent.mp4')
    got = solopose('silent.mp4 --out nothing', tmp_path)
    assert got.returncode == 2 and b'nothing was written for 10 s' in got.stderr and b'Traceback' not in got.stderr
    assert not (tmp_path / 'nothing').exists()


def test_nobody(tmp_path):
    "A black film: a line, exit code 0, no person, strict JSON, a page."
    write_video(tmp_path / 'black.mp4', np.zeros((20, 120, 160, 3), 'uint8'), 25)
    got = solopose('black.mp4 --out out', tmp_path)
    assert got.returncode == 0, got
    assert sum(b'nobody found in black.mp4' in l for l in got.stdout.splitlines()) == 1
    ds = poses(tmp_path / 'out')
    assert ds.sizes['individual'] == 0 and ds.sizes['time'] == 20
    def no(x): raise AssertionError(f'{x} is no JSON')
    found = json.loads((tmp_path / 'out' / 'poses.json').read_text(), parse_constant=no)
    assert found['people'] == [] and found['time'][1] == .04
    assert (tmp_path / 'out' / 'poses.html').stat().st_size > 2e4


def test_somebody_who_comes_late(tmp_path):
    "Thirty frames of an empty room, then the clip of the package: missing before, there after."
    from solopose.predict.poses import asset
    from solopose.predict.run import missing_frames, predict_video
    clip = np.stack(list(read_video(asset('demo.mp4'), max_frames=40)))
    room = np.full((30, 288, 288, 3), 150, 'uint8')
    room[:, 180:] = 90, 110, 70
    found = predict_video(write_video(tmp_path / 'late.mp4', np.concatenate([room, clip]), 25))
    gone = missing_frames(found)
    assert gone[:27].all() and not gone[33:].any()
    assert (found.poses.confidence.values[gone] == 0).all() and np.isfinite(found.poses.position.values[~gone]).all()


def test_somebody_small(tmp_path):
    "The person of the clip, 67 px tall in full HD, is found, followed, and in the right place."
    from solopose.predict.poses import asset, demo_truth
    from solopose.predict.run import predict_video
    slope = np.linspace(60, 200, 1920).astype('uint8')[None, None, :, None]
    frames, (left, top) = np.repeat(slope, 1080, 1).repeat(20, 0).repeat(3, -1), (1300, 500)
    for t, f in enumerate([*read_video(asset('demo.mp4'), max_frames=44)][24:]):
        frames[t, top:top + 100, left:left + 100] = Image.fromarray(f).resize((100, 100), reducing_gap=2)
    found = predict_video(write_video(tmp_path / 'small.mp4', frames, 25)).poses
    assert found.sizes['individual'] == 1 and np.isfinite(found.position.values).all()
    places = [ds.image_position.isel(individual=0).transpose('time', 'keypoint', 'image_space').values
              for ds in (found, demo_truth().isel(time=slice(24, 44)))]
    off = np.linalg.norm(places[0] - places[1] * 100 / 288 - [left, top], axis=-1)
    assert np.median(off) < 8, np.median(off)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='asks Linux how much memory a process has')
def test_memory_stays(tmp_path):
    "A film of 50 s takes no more memory than one of 12 s: at most 16 MB for each minute more, a tenth of what a film takes over ten minutes."
    from solopose.predict.poses import asset
    clip = [Image.fromarray(f).resize((480, 480)) for f in read_video(asset('demo.mp4'))]
    way = [*range(80), *range(78, 0, -1)]
    write_video(tmp_path / 'film.mp4', (np.asarray(clip[way[k % len(way)]]) for k in range(1250)), 25)
    code = ('''if 1:
        import json, os, sys
        from solopose.predict.run import predict_video
        held = lambda: int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6
        seen = []
        found = predict_video(sys.argv[1], stop=lambda: seen.append(held()))
        print(json.dumps(dict(seen=seen, frames=len(found.poses.time), end=held())))''')
    got = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'film.mp4')], capture_output=True, text=True)
    said = json.loads(got.stdout.splitlines()[-1])
    seen = said['seen']  # of each group of five frames
    assert said['frames'] == 1250 and len(seen) == 250
    first, last = max(seen[20:60]), max([*seen[210:], said['end']])
    assert last - first < 16 * 38 / 60, (first, last)


def test_case_nobody():
    from solopose.predict.run import missing_frames, predict_video
    assert missing_frames(predict_video(case('nobody/black.mp4'))).all()
    gone = missing_frames(predict_video(case('nobody/late_person.mp4')))
    assert gone[:46].all() and not gone[54:].any()


def test_version_and_options(tmp_path):
    "--version at once; a negative box is a box; a rate that is no rate is refused."
    import solopose as package
    got = solopose('--version', tmp_path)
    assert got.returncode == 0 and package.__version__.encode() in got.stdout
    make_video(tmp_path / 'film.mp4', n=3)
    assert solopose('film.mp4 --box -5,0,80,85 --out out', tmp_path).returncode == 0
    for rate in 'inf', '1e9', 'nan', '0', '-3':
        got = solopose(f'film.mp4 --fps {rate} --out none', tmp_path)
        assert got.returncode == 2 and b'fps is' in got.stderr and len(got.stderr.splitlines()) == 1, got


def test_top_level(tmp_path):
    "The names of the package are there, and asking for the package alone loads nothing heavy."
    code = ("import sys, solopose; assert 'torch' not in sys.modules and solopose.__version__; "
            "from solopose import predict_video, create_model, list_models; assert 'solopose-tiny' in list_models()")
    got = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert got.returncode == 0, got.stderr
