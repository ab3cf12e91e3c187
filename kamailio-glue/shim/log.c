/* The host's log macros. The module's name is an argument, so that lines say `presence:` or `pua:` as stock's do. */
#define MOD_NAME "presence"
#define MOD_NAMEID presence
#include "kr_shim.h"
#include "core/dprint.h"

int kr_log_enabled(int level)
{
	return is_printable(level);
}

void kr_log(int facility, int level, const char *module, const char *text, int len)
{
	LOG_FX(facility, level, NULL, module, NULL, ": %.*s\n", len, text);
}

int kr_log_facility(char *name)
{
	return str2facility(name);
}

int kr_log_default_facility(void)
{
	return DEFAULT_FACILITY;
}
