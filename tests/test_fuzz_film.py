"Films that are damaged in 2,000 ways: each is read or refused in one line. Minutes: `pytest --slow`; run as a script with seeds to replay them."
import os, resource, subprocess, sys, tempfile, time, warnings
from fractions import Fraction
from pathlib import Path
import numpy as np
import pytest

FILES, WORKERS = 2000, 2
SUFFIXES = 'mp4', 'mkv', 'avi', 'ts', 'mov', 'mpg', 'jpg', 'png'


def seed_films(folder):
    "One small good film of every kind, as bytes by suffix; the first half of the MP4 is fragmented."
    import av
    from PIL import Image
    y, x = np.mgrid[:64, :96]
    frames = [np.stack([(x * 2 + 5 * k) % 256, (y * 3) % 256, (x + y) % 256], -1).astype('uint8') for k in range(8)]
    for suffix in SUFFIXES:
        path = folder / f'seed.{suffix}'
        if suffix in ('jpg', 'png'):
            exif = Image.Exif()
            exif[274] = 6
            Image.fromarray(frames[0]).save(path, exif=exif)
            continue
        codec = {'mpg': 'mpeg2video', 'avi': 'mjpeg'}.get(suffix, 'libx264')
        with av.open(str(path), 'w', options={'movflags': 'frag_keyframe+empty_moov'} if suffix == 'mov' else {}) as c:
            s = c.add_stream(codec, rate=25, options={'g': '4'})
            s.height, s.width, s.pix_fmt = 64, 96, 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
            for k, a in enumerate(frames):
                f = av.VideoFrame.from_ndarray(a)
                f.pts, f.time_base = k, Fraction(1, 25)
                c.mux(s.encode(f))
            c.mux(s.encode())
    return {s: (folder / f'seed.{s}').read_bytes() for s in SUFFIXES}


def mutated(seed, films):
    "(suffix, bytes) of a damaged film: bits, bytes, numbers, blocks, cuts, repeats; mostly in the head."
    r = np.random.default_rng(seed)
    suffix = SUFFIXES[seed % len(SUFFIXES)]
    b = bytearray(films[suffix])
    head = len(b) if r.random() < .3 else min(len(b), 1200)
    if suffix == 'mp4' and r.random() < .6: start = max(0, b.find(b'moov'))
    else: start = 0
    for _ in range(r.integers(1, 12)):
        at, kind = start + int(r.integers(0, max(1, min(head, len(b) - start)))), r.integers(0, 7)
        if at >= len(b): continue
        n = int(r.integers(1, 9))
        if kind == 0: b[at] ^= 1 << int(r.integers(0, 8))
        elif kind == 1: b[at:at + n] = r.bytes(n)
        elif kind == 2: b[at:at + 4] = [b'\xff\xff\xff\xff', b'\0\0\0\0', b'\x7f\xff\xff\xff', b'\x80\0\0\0'][r.integers(0, 4)]
        elif kind == 3: del b[at:at + n * 8]
        elif kind == 4: b[at:at] = r.bytes(n * 8)
        elif kind == 5: b[at:at] = b[at:at + 200]
        else: del b[int(r.integers(at, len(b) + 1)):]
        if not b: b = bytearray(b'\0')
    return suffix, bytes(b)


def try_one(path):
    "Read a film to its end; what came out in a word. Any error but VideoError is a fault."
    from solopose.video.frames import read_video
    from solopose.video.write import VideoError
    try:
        video = read_video(path, size=64, max_frames=50)
        n = 0
        for t, f in video.timed():
            assert f.dtype == np.uint8 and f.ndim == 3 and np.isfinite(t)
            n += 1
        assert np.isfinite(video.fps) and video.fps > 0
        return 'read' if n else 'empty'
    except VideoError as e:
        assert '\n' not in str(e) and Path(path).name in str(e) or 'frame' in str(e), str(e)
        return 'refused'


def work(seeds):
    "Try many seeds in this process; prints a line for every fault, then the counts and the memory in MiB."
    warnings.simplefilter('ignore')
    import av
    av.logging.set_level(None)
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        films = seed_films(Path(folder))
        for seed in seeds:
            suffix, data = mutated(seed, films)
            path = Path(folder) / f'm{seed}.{suffix}'
            path.write_bytes(data)
            began = time.time()
            print('at', seed, flush=True)
            try: word = try_one(path)
            except Exception as e: word = f'fault {seed}: {type(e).__name__}: {e}'
            took = time.time() - began
            if took > 10: word = f'fault {seed}: {took:.0f} s'
            if word.startswith('fault'): print(word, flush=True)
            counts[word.split()[0]] = counts.get(word.split()[0], 0) + 1
            path.unlink()
    print('counts', counts, 'MiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)


@pytest.mark.slow
def test_two_thousand_damaged_films():
    here = [sys.executable, __file__]
    parts = [[str(s) for s in range(FILES)[k::WORKERS]] for k in range(WORKERS)]
    jobs = [subprocess.Popen(here + p, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for p in parts]
    read = 0
    for job in jobs:
        out = job.communicate(timeout=1500)[0].splitlines()
        assert job.returncode == 0, (job.returncode, out[-3:]) # a crash names the seed it was at
        assert not [l for l in out if l.startswith('fault')], [l for l in out if l.startswith('fault')]
        counts, memory = out[-1].split(' MiB ')
        assert int(memory) < 1024, out[-1]
        read += eval(counts.removeprefix('counts ')).get('read', 0)
    assert FILES * .1 < read < FILES * .95 # damaged, and yet worth reading


if __name__ == '__main__': work([int(s) for s in sys.argv[1:]])
