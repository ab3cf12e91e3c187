/* Shared and private memory: the host's macros change shape with its build flags. */
#include "kr_shim.h"
#include "core/mem/mem.h"
#include "core/mem/shm_mem.h"

void *kr_shm_malloc(size_t size)
{
	return shm_malloc(size);
}

void kr_shm_free(void *block)
{
	shm_free(block);
}

void *kr_pkg_malloc(size_t size)
{
	return pkg_malloc(size);
}

void kr_pkg_free(void *block)
{
	pkg_free(block);
}

size_t kr_shm_available(void)
{
	return shm_available();
}

size_t kr_shm_size(void)
{
	return shm_mem_size;
}

const char *kr_shm_manager(void)
{
	return _shm_root.mname;
}

const char *kr_pkg_manager(void)
{
	return _pkg_root.mname;
}

size_t kr_pkg_available(void)
{
	return pkg_available();
}
