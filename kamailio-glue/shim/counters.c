/* Statistics: the host keeps one slot a process and sums them when it is asked. */
#include "kr_shim.h"
#include "core/counters.h"

int kr_counter_register(const char *group, const char *name, const char *doc)
{
	counter_handle_t handle;
	if(counter_register(&handle, group, name, 0, 0, 0, doc, 0) < 0)
		return -1;
	return handle.id;
}

int kr_counter_computed(const char *group, const char *name, const char *doc, kr_counter_f compute, void *param)
{
	return counter_register(0, group, name, 0, (counter_cbk_f)compute, param, doc, 0);
}

void kr_counter_add(int id, int n)
{
	counter_handle_t handle = {(unsigned short)id};
	counter_add(handle, n);
}

long kr_counter_value(int id)
{
	counter_handle_t handle = {(unsigned short)id};
	return counter_get_val(handle);
}
