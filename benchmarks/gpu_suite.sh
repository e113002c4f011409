#!/usr/bin/env bash
# Everything a GPU is needed for, in one command of less than eight minutes:
#
#   benchmarks/gpu_suite.sh [--out FOLDER] [--official PATH] [--seconds N]
#                           [--skip STAGE]... [--only STAGE]...
#
# Stages, by value: library, tests, memcheck, racecheck, bench (training, profile, generator, ops,
# hopper, official, sampling, gradients, hopper-generator, compiled, loader; processes where there
# are several GPUs), precision. Each has its part of the time; what finds none left is named, and
# `--only` makes it in another run.
# The native library is the file that DIGAN_NATIVE_LIBRARY names, else the installed one, else it
# is built for the card at hand. Results are named by the device, ready for benchmarks/results/;
# targets.txt has what an H200 should reach beside what was measured.
# Needs Python with torch, numpy, scipy, pytest and matplotlib; what more is missing is skipped
# and named at the end. PYTHON names the interpreter. Without a GPU everything that can start
# is started on the CPU, and the summary says what is missing.
set -uo pipefail
# Paths of the caller's are meant from where the caller stands.
from_here() { case "$1" in '' | /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
if [ -n "${DIGAN_NATIVE_LIBRARY:-}" ]; then
    DIGAN_NATIVE_LIBRARY="$(from_here "$DIGAN_NATIVE_LIBRARY")"
    export DIGAN_NATIVE_LIBRARY
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$root/build/gpu_suite" official="" seconds=470 skip=" " only=" "

while [ $# -gt 0 ]; do
    case "$1" in
    --out | --official | --seconds | --skip | --only)
        [ $# -ge 2 ] || { echo "gpu_suite.sh: error: $1 needs a value" >&2; exit 2; }
        case "$1" in
        --out) out="$(from_here "$2")" ;;
        --official) official="$(from_here "$2")" ;;
        --seconds) seconds="$2" ;;
        --skip) skip="$skip$2 " ;;
        --only) only="$only$2 " ;;
        esac
        shift 2
        ;;
    -h | --help) sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "gpu_suite.sh: error: there is no flag '$1' (--help lists them)" >&2; exit 2 ;;
    esac
done
case "$seconds" in '' | *[!0-9]*)
    echo "gpu_suite.sh: error: --seconds must be a number, got '$seconds'" >&2; exit 2 ;;
esac

cd "$root" || exit 2
python="${PYTHON:-}"
if [ -z "$python" ]; then
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=python3; fi
fi
mkdir -p "$out" || exit 2
out="$(cd "$out" && pwd)"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

failed=0 summary=()
say() { summary+=("$1"); echo "== $1"; }
left() { echo $((seconds - SECONDS)); }
has() { "$python" -c "import $1" >/dev/null 2>&1; }
# wanted NAME [GROUP]: neither skipped nor left out of what alone is wanted, by either name.
wanted() {
    case "$skip" in *" $1 "* | *" ${2:-$1} "*) say "$1: skipped, as asked"; return 1 ;; esac
    case "$only" in " " | *" $1 "* | *" ${2:-$1} "*) return 0 ;; esac
    return 1
}

# stage NAME MOST COMMAND...: runs with the time that is left, MOST of 470 parts of all at most.
stage() {
    local name="$1" most="$(($2 * seconds / 470))" start="$SECONDS" rest status
    shift 2
    rest="$(left)"
    [ "$rest" -lt "$most" ] || rest="$most"
    if [ "$rest" -lt 10 ]; then
        say "$name: skipped, no time left of $seconds s; --only ${name#bench-} makes it"
        case " tests memcheck racecheck " in *" $name "*) failed=1 ;; esac
        return 1
    fi
    echo "== $name: $*"
    timeout -k 5 "$rest" "$@" 2>&1 | tee "$out/$name.log"
    status="${PIPESTATUS[0]}"
    case "$status" in
    0) say "$name: passed, $((SECONDS - start)) s" ;;
    124 | 137) say "$name: FAILED, stopped after $rest s"; failed=1 ;;
    *) say "$name: FAILED with status $status, $((SECONDS - start)) s"; failed=1 ;;
    esac
    return "$status"
}

has torch || { echo "gpu_suite.sh: error: $python cannot import torch" >&2; exit 1; }
# Name, GiB of memory and capability of the card, and how many there are, as four lines.
mapfile -t card < <("$python" -c 'import torch
if torch.cuda.is_available():
    about = torch.cuda.get_device_properties(0)
    print(about.name, about.total_memory >> 30, f"{about.major}.{about.minor}",
          torch.cuda.device_count(), sep="\n")')
gpu="${card[0]:-}" memory="${card[1]:-0}" capability="${card[2]:-}" cards="${card[3]:-0}"
if [ -n "$gpu" ]; then say "GPU: $gpu, $memory GiB"; else say "GPU: missing, so the CPU stands in"; fi
device="$(echo "${gpu:-cpu}" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9\n' '-' | sed 's/^-*//; s/-*$//')"
# Property tests run on the CPU; without hypothesis a stand-in lets the files of the others import.
if ! has hypothesis; then
    export PYTHONPATH="$PYTHONPATH:$PWD/benchmarks/stand_in"
    say "hypothesis: missing, a stand-in is imported; no test marked gpu draws its cases"
fi

# The library: given, installed, or built here.
reason() { "$python" -c 'import digan.ops, digan.native as n; print(n.reason())'; }
if wanted library; then
    why="$(reason)"
    if [ -n "$why" ] && [ -z "${DIGAN_NATIVE_LIBRARY:-}" ] && command -v nvcc >/dev/null; then
        if [ -n "$gpu" ] && [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
            export TORCH_CUDA_ARCH_LIST="${capability/9.0/9.0a}"
        fi
        DIGAN_BUILD_CUDA=1 stage build 240 "$python" setup.py --quiet build_ext --build-lib "$out/lib" &&
            export DIGAN_NATIVE_LIBRARY="$out/lib/digan/_native.so"
        why="$(reason)"
    fi
    if [ -z "$why" ]; then
        say "library: ${DIGAN_NATIVE_LIBRARY:-installed}, for $("$python" -c \
            'import digan.ops, digan.native as n; print(*n.architectures())')"
    else
        say "library: missing: $why"
        [ -z "$gpu" ] || failed=1
    fi
fi
# A library that an earlier run built serves this one too.
if [ -z "${DIGAN_NATIVE_LIBRARY:-}" ] && [ -f "$out/lib/digan/_native.so" ] &&
    [ -n "$(reason)" ]; then
    export DIGAN_NATIVE_LIBRARY="$out/lib/digan/_native.so"
fi

# Tests whose modules need a package that is not here cannot be collected and are named.
if wanted tests; then
    if has pytest; then
        mapfile -t found < <(grep -rlE 'mark\.gpu|each_backend' tests --include='test_*.py' | sort)
        "$python" -m pytest -q --collect-only -p no:cacheprovider "${found[@]}" >"$out/collect.log" 2>&1
        files=()
        for file in "${found[@]}"; do
            if grep -q "^ERROR $file" "$out/collect.log"; then
                say "tests: skipped $(grep -m1 "^ERROR $file" "$out/collect.log")"
            else
                files+=("$file")
            fi
        done
        if [ -n "$gpu" ]; then
            stage tests 110 "$python" -m pytest -q -m gpu -p no:cacheprovider "${files[@]}"
        else
            say "tests: ${#files[@]} files can be collected; none was run without a GPU"
        fi
    else
        say "tests: skipped, pytest is missing"
    fi
fi

# Our kernels alone, where this compute-sanitizer can be told so.
filter=()
if compute-sanitizer --help 2>/dev/null | grep -q -- --kernel-regex; then
    filter=(--kernel-regex kns=digan)
fi
for tool in memcheck racecheck; do
    wanted "$tool" || continue
    if [ -z "$gpu" ]; then
        stage "$tool" 60 "$python" benchmarks/small_shapes.py
    elif command -v compute-sanitizer >/dev/null; then
        # PyTorch's own allocator would hide what lies beyond a tensor.
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 stage "$tool" 40 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 --print-limit 20 "${filter[@]}" \
            "$python" benchmarks/small_shapes.py
    else
        say "$tool: skipped, compute-sanitizer is missing"
    fi
done

# The benchmark: a file for each stage, so that one that runs out of time takes no other with it.
sections=" $("$python" -c 'from digan.bench.cases import SECTIONS; print(*SECTIONS)') "
# Pairs of an iteration and videos of a generator's step: what fills a large card, or fits a small.
batch=32
[ "$memory" -ge 40 ] || batch=8
plots=""
if has matplotlib; then
    plots=yes
else
    say "bench: no pictures, matplotlib is missing"
fi
# bench NAME SECTION MOST FLAG...: the section as the stage bench-NAME, within 9/10 of its time.
bench() {
    local name="$1" section="$2" most="$3" limit
    shift 3
    wanted "$name" bench || return 0
    case "$sections" in
    *" $section "*) ;;
    *) say "bench-$name: skipped, this benchmark has no section $section"; return 0 ;;
    esac
    if [ -z "$gpu" ]; then say "bench-$name: skipped, it needs a GPU"; return 0; fi
    limit="$((most * seconds / 470))"
    [ "$(left)" -ge "$limit" ] || limit="$(left)"
    stage "bench-$name" "$most" "$python" benchmarks/bench_inr.py --device cuda \
        --section "$section" --precision bf16 --batch "$batch" --processes 1 --repeats 10 \
        --budget 2 --no-memory --seconds "$((limit > 10 ? limit * 9 / 10 : 1))" \
        --json "$out/$device-$name.json" ${plots:+--plot "$out/$name"} "$@"
}
# knows NAME: the sources read this variable of the environment.
knows() { grep -rqs "$1" digan csrc; }

bench training training 50 --providers reference,fused
bench profile profile 35 --providers fused --trace "$out/trace.json"
bench generator generator 40 --providers fused
bench ops ops 50 --providers reference,fused --budget 0.7
if ! knows DIGAN_HOPPER; then
    ! wanted hopper bench || say "bench-hopper: skipped, this version does not know DIGAN_HOPPER"
elif [ -n "$gpu" ] && [ "${capability%%.*}" != 9 ]; then
    ! wanted hopper bench || say "bench-hopper: skipped, the card is no Hopper"
else
    bench hopper ops 45 --providers fused --vary DIGAN_HOPPER=0,1
fi
if [ -z "$official" ]; then
    ! wanted official bench || say "bench-official: skipped, --official names no checkout"
elif [ ! -d "$official" ]; then
    ! wanted official bench || say "bench-official: skipped, $official is no folder"
else
    bench official training 130 --providers fused,original --official "$official"
fi
bench sampling sampling 30
bench gradients gradients 30
if knows DIGAN_HOPPER && [ "${capability%%.*}" = 9 ]; then
    bench hopper-generator generator 40 --providers fused --vary DIGAN_HOPPER=0,1
fi
bench compiled generator 90 --providers fused,compiled
bench loader loader 25
if [ "$cards" -gt 1 ]; then
    bench processes processes 60
elif [ "$cards" = 1 ]; then
    ! wanted processes bench || say "bench-processes: skipped, there is one GPU"
fi
if wanted bench && [ -z "$gpu" ]; then
    stage bench 60 "$python" benchmarks/bench_inr.py --help
fi

# The time that is left trains small networks in every precision.
if wanted precision; then
    minutes="$(($(left) - 30))"
    if [ ! -f benchmarks/precision_study.py ]; then
        say "precision: skipped, this version has no benchmarks/precision_study.py"
    elif [ -z "$gpu" ]; then
        say "precision: skipped, it needs a GPU"
    elif [ "$minutes" -lt 60 ]; then
        say "precision: skipped, no time left of $seconds s; --only precision makes it"
    else
        # Four precisions and one seed, in a third of the time for what is not training.
        minutes="$(awk "BEGIN { print $minutes / 60 / 6 }")"
        stage precision 470 "$python" benchmarks/precision_study.py --device cuda --resolution 64 \
            --preset fast --batch 32 --seeds 0 --minutes "$minutes" --outdir "$out/precision"
    fi
fi

results=("$out/$device"-*.json)
if [ -e "${results[0]}" ]; then
    "$python" benchmarks/targets.py "${results[@]}" | tee "$out/targets.txt"
fi
echo
echo "gpu_suite: $SECONDS s, results in $out"
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
exit "$failed"
