# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for glidefs: the program itself says what may follow.
_glidefs()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd="" socket="" word i words files=()
	case $prev in
	--socket | -s)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--cache-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--token-file | --config)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--format)
		mapfile -t COMPREPLY < <(compgen -W "raw qcow2" -- "$cur")
		return
		;;
	--size | --block-size | --timeout | --tag | --from | --host | --grace | --max-delete | --rate)
		return
		;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket | -s)
			i=$((i + 1))
			socket=${COMP_WORDS[i]}
			;;
		--host | --token-file | --size | --block-size | --timeout | --tag | --from | --cache-dir | \
			--config | --format | --grace | --max-delete | --rate)
			i=$((i + 1))
			;;
		-*) ;;
		*)
			cmd=$word
			break
			;;
		esac
	done
	words=$(glidefs __complete "$cmd" 2>/dev/null)
	case $words in
	*NAME*)
		words="${words/NAME/} $(glidefs ${socket:+--socket "$socket"} ls 2>/dev/null |
			awk 'NR > 1 { print $1 }')"
		;;
	*IMAGE*)
		words="${words/IMAGE/} $(glidefs ${socket:+--socket "$socket"} images 2>/dev/null |
			awk 'NR > 1 { print $1 }')"
		;;
	*FILE*)
		words=${words/FILE/}
		mapfile -t files < <(compgen -f -- "$cur")
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	COMPREPLY+=("${files[@]}")
}
complete -F _glidefs glidefs
