__version__ = "0.1.0"

# Written by hand: nbdev keeps the line above. The names below are imported when they are first asked for,
# so that `import solopose`, and with it `--help` and `--version`, stay quick.
__all__ = ['predict_video', 'predict_stream', 'read_video', 'write_results', 'create_model', 'list_models']
_WHERE = {'predict_video': 'predict.run', 'predict_stream': 'predict.stream', 'write_results': 'predict.writers', 'read_video': 'video.frames',
          'create_model': 'model', 'list_models': 'model'}


def __getattr__(name):
    if name not in _WHERE: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_WHERE[name]}'), name)


def __dir__(): return sorted({*globals(), *__all__})
