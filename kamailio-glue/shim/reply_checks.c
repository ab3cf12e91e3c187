/* Whether the reply_route of the configuration leaves an answer alone that sanity_check() lets pass: its actions as
 * the host has read them. */
#define _GNU_SOURCE
#include "kr_shim.h"
#include "core/kemi.h"
#include "core/mod_fix.h"
#include "core/route.h"
#include "core/rvalue.h"
#include "core/sr_module.h"
#include <dlfcn.h>

/* The checks of the module sanity that `sip/sane_answer.rs` is at least as strict as, by their numbers in its
 * documentation: required headers, the two that check nothing, CSeq value, Content-Length, parse URIs, duplicate tags,
 * the first Via. */
#define KNOWN_CHECKS (4 | 8 | 16 | 64 | 128 | 1024 | 4096 | 16384)
/* The same for the URIs that are parsed: From and To. */
#define KNOWN_URIS (2 | 4)

/* Whether a parameter of a function is a number, and has no other bits than these. */
static int is_within(action_u_t *operand, int bits)
{
	gparam_t *parameter = operand->u.data;
	return operand->type == MODFIXUP_ST && parameter != NULL && parameter->type == GPARAM_TYPE_INT && parameter->v.i > 0
		   && (parameter->v.i & ~bits) == 0;
}

/* Whether an action is sanity_check() with checks that are known. */
static int is_known_check(struct action *action)
{
	Dl_info library;
	const char *name;
	ksr_cmd_export_t *command;
	if(action == NULL || action->type != MODULE2_T || action->next != NULL)
		return 0;
	command = action->val[0].u.data;
	if(command == NULL || command->name == NULL || strcmp(command->name, "sanity_check") != 0
			|| dladdr((void *)command->function, &library) == 0 || library.dli_fname == NULL)
		return 0;
	name = strrchr(library.dli_fname, '/');
	return strcmp(name != NULL ? name + 1 : library.dli_fname, "sanity.so") == 0
		   && is_within(&action->val[2], KNOWN_CHECKS) && is_within(&action->val[3], KNOWN_URIS);
}

/* Whether an expression is `!sanity_check(...)`. */
static int is_failed_check(struct rval_expr *expression)
{
	while(expression != NULL && expression->op == RVE_BOOL_OP)
		expression = expression->left.rve;
	if(expression == NULL || expression->op != RVE_LNOT_OP)
		return 0;
	do
		expression = expression->left.rve;
	while(expression != NULL && expression->op == RVE_BOOL_OP);
	return expression != NULL && expression->op == RVE_RVAL_OP && expression->left.rval.type == RV_ACTION_ST
		   && is_known_check(expression->left.rval.v.action);
}

/* Whether an action is `if(!sanity_check(...)) ...` without an `else`. */
static int is_guard(struct action *action)
{
	return action->type == IF_T && action->val[0].type == RVE_ST && is_failed_check(action->val[0].u.data)
		   && action->val[2].type != ACTIONS_ST;
}

/* Whether an action is `return` or `exit` that has the message go on. */
static int is_end(struct action *action)
{
	return action->type == DROP_T && action->val[0].type == NUMBER_ST && action->val[0].u.number > 0
		   && action->val[1].type == NUMBER_ST && (action->val[1].u.number & DROP_R_F) == 0;
}

enum kr_reply_checks kr_reply_checks(void)
{
	struct action *action = onreply_rt.rlist[DEFAULT_RT];
	if(kemi_reply_route_callback.len > 0 && sr_kemi_eng_get() != NULL)
		return KR_REPLY_CHECKS_UNKNOWN;
	if(action == NULL)
		return KR_REPLY_CHECKS_NONE;
	for(; action != NULL && !is_end(action); action = action->next)
		if(!is_guard(action))
			return KR_REPLY_CHECKS_UNKNOWN;
	return KR_REPLY_CHECKS_SANITY;
}
