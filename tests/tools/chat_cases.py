#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Conversations as Jinja2 renders them, set up as transformers does (pip install jinja2). `chat_cases.py write` makes tests/unit/text/chat_cases.json anew,
`chat_cases.py check` says whether it still holds."""
import json
import sys
from pathlib import Path

import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

target = Path(__file__).resolve().parents[2] / "tests/unit/text/chat_cases.json"
TALK = [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": "Hi \"you\"\n안녕"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo"},
        {"role": "user", "content": "a b c"}]
# the habits of the families, in few words each, and every construct
TEMPLATES = [
    # ChatML
    "{% for message in messages %}\n{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}\n{% endfor %}\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\n",
    # a system turn that is cut off, dates, defaults, indexes
    "{{- bos_token }}\n{%- if not date is defined %}\n    {%- set date = '26 Jul' %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n{{- '<|h|>system<|e|>\n\n' + date ~ system }}\n{%- for m in messages %}\n"
    "    {%- if not (m.role == 'tool' or 'tool_calls' in m) %}\n        {{- '<|h|>' + m['role'] + '<|e|>' + m['content'] | trim }}\n    {%- endif %}\n{%- endfor %}",
    # the last question, backwards; thoughts
    "{%- set ns = namespace(found=false, last=messages|length - 1) %}{%- for m in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
    "{%- if not ns.found and m.role == 'user' and not(m.content.startswith('<r>') and m.content.endswith('</r>')) %}{%- set ns.found = true %}{%- set ns.last = index %}{%- endif %}{%- endfor %}"
    "{{ ns.last }}{% for m in messages %}{% set c = m.content %}{% if '</think>' in c %}{% set t = c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\\n') %}[{{ t }}]{% endif %}{{ loop.index0 > ns.last }}:{{ c }}{{ '|' if not loop.last else '' }}{% endfor %}",
    # turns that must alternate
    "{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}{%- set ns = namespace() %}{%- set ns.i = 0 %}{%- for m in messages %}{%- if m.role != 'system' %}"
    "{%- if (m['role'] == 'user') != (ns.i % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}{%- set ns.i = ns.i + 1 %}{%- endif %}{%- endfor %}"
    "{{ bos_token }}{% for m in messages %}{% if m == users[-1] %}[last]{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} {{ m.content|trim + eos_token }}{% endif %}{% endfor %}",
    "{{ raise_exception('never: ' ~ messages[0].role) }}",
    # marks by role, a macro, continue, a list of numbers
    "{%- set marks = {'user': '[|user|]\\n', 'assistant': '[|assistant|]\\n', 'system': '[|system|]\\n'} %}{%- macro show(text, end='.') %}\n    {{- '<' ~ text }}{{ end -}}\n{%- endmacro %}\n"
    "{%- for i in range(messages | length) %}\n    {%- set m = messages[i] %}\n    {%- if i == 0 and m.role == 'system' %}\n        {{- marks['system'] }}\n        {%- continue %}\n    {%- endif %}\n"
    "    {{- marks[m.role] }}\n    {{- show(m.content | tojson, end=loop.index) }}\n    {%- if loop.last %}\n        {%- break %}\n    {%- endif %}\n{% endfor %}\n",
    # white space on every side
    "  {% if true %}  \n  x {# note #}\n {#- note -#}  y\n\t{%- if false %}no{% else %}\n    z {%+ if true +%}\n kept{% endif %}{% endif %}\n{% endif %}\n  {{- 1 }}\n{{ 2 -}}  \n end \n\n",
    # values
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 + 3 * 4 - 1 }} {{ 1 ~ 2 + 3 ~ 'x' }} {{ 'ab' * 2 }} {{ [1, 2] + [3] == [1, 2, 3] }} {{ 1 < 2 < 3 }} {{ not 1 == 2 and true }} {{ none }} {{ 0.5 }}",
    "{{ 'é한👋x'[1] }}{{ 'é한👋x'[-2] }}{{ 'é한👋x'[::-1] }}{{ 'abcdef'[1:-1:2] }}{{ 'é한👋'|length }}{{ [3, 4, 5][-2:] | join('+') }}{{ 'abc'[5:] }}{{ 'x' in 'xyz' }}{{ 'k' not in {'k': 1} }}{{ (1, 2) | last }}",
    "{{ ' x '.strip() }}|{{ 'xxay'.lstrip('x') }}|{{ 'a,b,,c'.split(',') | join(';') }}|{{ 'a b c'.split(' ', 1)[1] }}|{{ 'Ab'.upper() }}{{ 'Ab' | lower }}{{ 'abc' | capitalize }}|{{ 'aXbX'.replace('X', '-') }}|{{ 'abc'.find('c') }}",
    "{{ nope is defined }}{{ nope is undefined }}{{ none is none }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ 'a' is sequence }}{{ 3 is number }}{{ 3 is odd }}{{ 4 is even }}{{ true is true }}"
    "{{ 1 is integer }}{{ 1.5 is float }}{{ false is boolean }}{{ 6 is divisibleby 3 }}{{ 2 is in [1, 2] }}{{ 'a' is eq('a') }}{{ 2 is not gt 3 }}{{ nope }}{{ nope | default('d') }}{{ '' | default('e', true) }}",
    "{{ messages | map(attribute='role') | join(',') }} {{ messages | rejectattr('role', 'in', ['user']) | list | length }} {{ [1, 'a', none] | select('string') | first }} {{ {'a': 1, 'b': [true, none, 'q\\n']} | tojson }}\n"
    "{{ {'a': [1, {}]} | tojson(indent=2) }} {{ {'x': 1, 'y': 2}.items() | list | length }}{% for k, v in {'x': 1, 'y': 2} | items %} {{ k }}={{ v }}{% endfor %} {{ [1, 2] | reverse | list | first }} {{ '12' | int + 1 }} {{ 'a\nb' | indent(2) }}",
    "{% for x in [] %}no{% else %}nothing{% endfor %}{% for x in 'ab' if x != 'a' %}{{ x }}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.revindex }}{% endfor %}{% set a, b = 'pq' %}{{ a }}{{ b }}{% set block %} <{{ a }}>{% endset %}{{ block | trim }}"
    "{% for x in [1, 2] %}{% set a = x %}{{ loop.previtem }}{{ loop.cycle('u', 'v') }}{% endfor %}{{ a }}{% if tools %}t{% elif documents is none %}d{% endif %}{{ 'x' if nope }}{{ {'k': 'v'}.get('z', 'w') }}",
    "{{ nope.x }}", "{{ 'a' + 1 }}", "{{ messages[9].role }}", "{% if %}", "{{ 1 + }}", "{% for x in [1] %}", "{{ 'open }}", "{% endif %}", "{{ 1 // 0 }}", "{{ messages | first('x') }}", "{# open",
]


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def cases():
    env = environment()
    for template in TEMPLATES:
        for talk, generation in ((TALK, False), (TALK[1:3], True), (TALK[1:] + TALK[3:], False)):
            try:
                text = env.from_string(template).render(messages=talk, tools=None, documents=None, add_generation_prompt=generation, bos_token="<s>", eos_token="</s>")
            except Exception:
                text = None
            yield {"template": template, "messages": talk, "generation": generation, "text": text}


made = '{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases()) + "\n]}\n"
if sys.argv[1:] == ["write"]:
    target.write_text(made)
elif sys.argv[1:] == ["check"]:
    sys.exit(None if made == target.read_text() else f"{target.name} is not what this Jinja2 gives")
else:
    sys.exit(__doc__)
