# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for gfs-trace: the program itself says what may follow.
_gfs_trace()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd="" word i words
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		# What check runs is another program's business.
		if [[ $word == -- ]]; then
			COMP_WORDS=("${COMP_WORDS[@]:i+1}")
			COMP_CWORD=$((COMP_CWORD - i - 1))
			if ((COMP_CWORD == 0)); then
				mapfile -t COMPREPLY < <(compgen -c -- "$cur")
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			fi
			return
		fi
		case $word in
		-d | -p | -o | --volume | --min-ms | --budget | --html | --perfetto | --folded | --log | --ring | \
			--trigger | --duration)
			i=$((i + 1))
			;;
		-*) ;;
		*) [[ -n $cmd ]] || cmd=$word ;;
		esac
	done
	case $prev in
	-o | --html | --perfetto | --folded | --log)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	-d)
		mapfile -t COMPREPLY < <(compgen -G "${cur:-/dev/ublkb}*")
		return
		;;
	--volume)
		words=$(glidefs ls 2>/dev/null | awk 'NR > 1 { print $1 }')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	-p)
		mapfile -t COMPREPLY < <(compgen -W "$(pgrep glidefsd)" -- "$cur")
		return
		;;
	--min-ms | --budget | --ring | --trigger | --duration)
		return
		;;
	esac
	words=$(gfs-trace ${cmd:+"$cmd"} --help 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-z][a-z-]*' | tr -d ' ,')
	if [[ -z $cmd ]]; then
		words="$words $(gfs-trace --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p')"
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if [[ ($cmd == report || $cmd == replay) && $cur != -* ]]; then
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
	fi
}
complete -F _gfs_trace gfs-trace
