#!/usr/bin/env bash
# Enlarge anything that ffmpeg can read, between two programs of ffmpeg: filters before, any encoder behind, no file between.
#
#   pipelines/ffmpeg_pipe.sh INPUT OUTPUT [OPTION OF gtasr-video upscale ...]
#   pipelines/ffmpeg_pipe.sh INPUT -      [OPTION ...]          shows it with ffplay
#   INPUT_OPTIONS="-f v4l2" pipelines/ffmpeg_pipe.sh /dev/video0 out.mkv --latency 500ms
#
# Environment: FFMPEG, FFPLAY, GTASR_VIDEO (the programs), INPUT_OPTIONS, OUTPUT_OPTIONS (for the two of ffmpeg).
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
input=$1 output=$2
shift 2
read -ra before <<< "${INPUT_OPTIONS:-}"
read -ra after <<< "${OUTPUT_OPTIONS:--c:v libx264 -preset veryfast -crf 20 -c:a copy}"
read -ra upscale <<< "${GTASR_VIDEO:-gtasr-video} upscale"

decode() {
    "${FFMPEG:-ffmpeg}" -v error -nostdin "${before[@]}" -i "$input" -map 0:v:0 -map '0:a?' \
        -c:v rawvideo -c:a copy -f nut -
}

encode() {
    if [ "$output" = - ]; then
        "${FFPLAY:-ffplay}" -v error -autoexit -
    else
        "${FFMPEG:-ffmpeg}" -v error -nostdin -y -i - -map 0 "${after[@]}" "$output"
    fi
}

decode | "${upscale[@]}" - - "$@" | encode
