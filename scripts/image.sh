#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Print the path of the kernel that BASE, CONFIG and UNPATCHED name.
. "$(dirname "$0")/lib.sh"
echo "$image"
