#!/bin/bash
# Enlarge a file on a disk that is too small to join the segments, make the disk larger, and let it end.
#
#   unshare -rm small_disk.sh IN.mp4 KIB stop|wait FOLDER PYTHON
#
# stop  the program fails and is started again; wait: it waits for room. What it says is in FOLDER/said, what it made
# FOLDER/out.mp4. Ends with 77 where no disk can be mounted, 78 where the program did not notice.
set -u
source=$1 kib=$2 how=$3 folder=$4 python=$5
disk=$folder/disk
mkdir -p "$disk"
mount -t tmpfs -o "size=${kib}k" none "$disk" || exit 77
command=("$python" -m gtasr_video upscale "$source" "$disk/out.mp4" --model bicubic --scale 2 --device cpu --crf 1)
if [ "$how" = wait ]; then
    coproc program { exec "${command[@]}" --wait-for-space 2>&1; }
    pid=$program_PID
    exec {said}<&"${program[0]}"
    until [[ ${line:-} == *"the disk is full; waiting"* ]]; do
        IFS= read -r line <&"$said" || exit 78
        echo "$line" >> "$folder/said"
    done
    mount -o remount,size=64m "$disk"
    cat <&"$said" >> "$folder/said"
    wait "$pid" || exit
else
    "${command[@]}" 2> "$folder/said" && exit 78
    mount -o remount,size=64m "$disk"
    "${command[@]}" 2>> "$folder/said" || exit
fi
cp "$disk/out.mp4" "$folder/out.mp4"
