#!/usr/bin/env bash
# From a fresh clone to a scored benchmark and an analysed picture, with the small model that comes with the project.
#
# Usage: bash scripts/quickstart.sh [--full] [--smoke] [--research_faces]
#   --full             score all pictures of each benchmark, not 60 of each
#   --smoke            score five pictures of each benchmark (what the tests run; also FFAA_SMOKE=1)
#   --research_faces   also build and score the mini_* benchmarks; fetches 999 CelebA photographs of real people,
#                      whose licence allows non-commercial research only
#
# Needs Python 3.11 or newer, about 9 GB of disk the first time and 4 GB of free memory; no GPU.
# Calling it again goes on where it stopped and reuses what is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

eval_num=60
research=0
if [[ "${FFAA_SMOKE:-0}" == 1 ]]; then eval_num=5; fi
for argument in "$@"; do
    case "$argument" in
        --full) eval_num=-1 ;;
        --smoke) eval_num=5 ;;
        --research_faces) research=1 ;;
        -h | --help)
            sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *)
            echo "error: unknown option $argument (see bash scripts/quickstart.sh --help)" >&2
            exit 2
            ;;
    esac
done

fail() {
    echo "error: $*" >&2
    exit 2
}

# Free space in MB where a path lies, or will lie: its closest parent that exists.
free_mb() {
    local folder="$1"
    while [[ ! -d "$folder" ]]; do folder="$(dirname "$folder")"; done
    df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }'
}

# Memory that can be had without swapping, in MB; empty where the system does not tell.
free_memory_mb() {
    if [[ -r /proc/meminfo ]]; then
        awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo
    elif command -v sysctl >/dev/null; then
        sysctl -n hw.memsize 2>/dev/null | awk '{ print int($1 / 1048576) }'
    fi
}

check_needs() {
    local cache="${FFAA_HOME:-$HOME/.cache/ffaa}" disk=1000 cached=500 memory
    [[ -f .venv/ffaa.stamp ]] || disk=9000
    [[ -d "$cache/assets/clip_vit_b16" ]] || cached=1500
    memory="$(free_memory_mb)"
    echo "needs: ${disk} MB of disk here ($(free_mb .) free), ${cached} MB in $cache ($(free_mb "$cache") free)," \
        "4000 MB of memory (${memory:-unknown} free)"
    (($(free_mb .) >= disk)) || fail "not enough disk in this folder: $disk MB needed"
    (($(free_mb "$cache") >= cached)) || fail "not enough disk for the assets: $cached MB needed (FFAA_HOME moves them)"
    ((${memory:-4000} >= 4000)) || fail "not enough free memory: 4000 MB needed, $memory MB free"
}

step_names=()
step_times=()
step() {
    local name="$1" before=$SECONDS code=0
    shift
    printf '\n== Step %d of 5: %s\n' $((${#step_names[@]} + 1)) "$name"
    "$@" || code=$?
    case "$code" in
        0) ;;
        3) echo "   some pictures failed; they are recorded with their reason" ;;
        *)
            echo "error: this step failed ($name); its message is above. Calling the quick start again goes on here" >&2
            exit "$code"
            ;;
    esac
    step_names+=("$name")
    step_times+=($((SECONDS - before)))
    echo "   done in $((SECONDS - before)) s"
}

assets=(clip_vit_b16 smollm2_135m minilm_l6 orl_faces openpeople)
benchmarks=free_ma,free_people,free_jpeg
family=free
if ((research)); then
    assets+=(celeba_faces dcgan_faces)
    benchmarks+=,mini_ma,mini_poisson,mini_expression,mini_gan,mini_people,mini_jpeg,mini_orl,mini_regions
    family=all
fi
picture=playground/test_images/openpeople_p007.jpg

check_needs
python=.venv/bin/python
step "set up the environment" bash scripts/setup.sh
step "fetch and check weights and faces" "$python" -m ffaa.assets fetch "${assets[@]}"
step "build the benchmarks" "$python" scripts/data/build_benchmarks.py --family "$family"
step "score FFAA-mini on them" "$python" eval.py --benchmark "$benchmarks" --model mini --generate_num 3 \
    --eval_num "$eval_num"
step "analyse a picture, with heat map" "$python" inference.py "$picture" --visualize 1

printf '\nQuick start done in %d s:\n' "$SECONDS"
for index in "${!step_names[@]}"; do
    printf '  %-36s %5d s\n' "${step_names[$index]}" "${step_times[$index]}"
done
