/* Processes and timers. */
#include "kr_shim.h"
#include "core/pt.h"
#include "core/timer.h"
#include "core/timer_proc.h"
#include "core/cfg/cfg_struct.h"

int kr_pid(void)
{
	return my_pid();
}

int kr_register_timer(timer_function *f, void *param, unsigned int interval)
{
	return register_timer(f, param, interval);
}

int kr_wtimer_add(timer_function *f, void *param, int interval)
{
	return sr_wtimer_add(f, param, interval);
}

int kr_register_basic_timers(int count)
{
	return register_basic_timers(count);
}

int kr_fork_basic_timer_us(char *name, timer_function *f, void *param, int micros)
{
	return fork_basic_utimer(PROC_TIMER, name, 1, f, param, micros);
}


int kr_register_procs(int count)
{
	return register_procs(count);
}

void kr_cfg_register_child(int count)
{
	cfg_register_child(count);
}

int kr_cfg_child_init(void)
{
	return cfg_child_init();
}

void kr_cfg_update(void)
{
	cfg_update();
}

int kr_fork_process(int rank, char *name, int make_sock)
{
	return fork_process(rank, name, make_sock);
}
