#!/usr/bin/env python3
"""sevenbit.py OLD NEW: an outside look at 7-bit forms. Each message of NEW must be 7-bit, and Python's e-mail package must
read the same parts, header fields and decoded bytes from it as from its namesake in OLD."""
import email, os, sys

ENCODING = {'content-transfer-encoding', 'content-length'}

def parts(raw):
    m = email.message_from_bytes(raw)
    for p in m.walk():
        fields = [(k.lower(), str(v)) for k, v in p.items() if k.lower() not in ENCODING | {'mime-version'}]
        body = None if p.is_multipart() else p.get_payload(decode=True)
        yield p.get_content_type(), fields, body

def faults(old, new):
    if any(c >= 0x80 for c in new):
        yield 'an 8-bit byte'
    if max(map(len, new.split(b'\r\n'))) > max(998, max(map(len, old.split(b'\r\n')))):
        yield 'a line that is too long'
    a, b = list(parts(old)), list(parts(new))
    if [x[0] for x in a] != [x[0] for x in b]:
        yield f'parts {[x[0] for x in a]} became {[x[0] for x in b]}'
        return
    for i, (x, y) in enumerate(zip(a, b)):
        if x[1] != y[1]:
            yield f'part {i}: fields {x[1]} became {y[1]}'
        if x[2] != y[2]:
            yield f'part {i} ({x[0]}): {x[2][:300]!r} became {y[2][:300]!r}'

checked = failed = 0
for folder, _, names in os.walk(sys.argv[2]):
    for name in names:
        path = os.path.join(folder, name)
        other = os.path.join(sys.argv[1], os.path.relpath(path, sys.argv[2]))
        checked += 1
        found = list(faults(open(other, 'rb').read(), open(path, 'rb').read()))
        failed += bool(found)
        for f in found:
            print(f'{os.path.relpath(path, sys.argv[2])}: {f}')
print(f'checked {checked}, failed {failed}')
sys.exit(failed > 0)
