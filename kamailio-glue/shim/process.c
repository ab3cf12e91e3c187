/* Processes and timers. */
#include "kr_shim.h"
#include "core/pt.h"
#include "core/timer.h"
#include "core/timer_proc.h"

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

