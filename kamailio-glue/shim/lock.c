/* The host's locks: macros or inlines, by build flags. */
#include "kr_shim.h"
#include "core/locking.h"

size_t kr_lock_size(void)
{
	return sizeof(gen_lock_t);
}

int kr_lock_init(void *lock)
{
	return lock_init((gen_lock_t *)lock) != 0;
}

void kr_lock_get(void *lock)
{
	lock_get((gen_lock_t *)lock);
}

int kr_lock_try(void *lock)
{
	return lock_try((gen_lock_t *)lock);
}

void kr_lock_release(void *lock)
{
	lock_release((gen_lock_t *)lock);
}
