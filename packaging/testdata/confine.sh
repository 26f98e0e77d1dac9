# confine.sh FOLDER CAPABILITIES COMMAND...: runs a command as systemd runs the agent's
# unit, in a mount namespace of its own: nothing but FOLDER can be written to, and of the
# capabilities only those are left. SIGPIPE is ignored, as IgnoreSIGPIPE= has it.
set -e
folder=$1 set=$2
shift 2
mount --make-rslave /
mount --bind "$folder" "$folder"
mount -o remount,bind,ro /
umask 0077
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set="-all$set" -- env --ignore-signal=PIPE "$@"
