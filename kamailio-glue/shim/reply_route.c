/* Whether the reply_route of the configuration looks for tm's transactions: its actions as the host has read them. */
#define _GNU_SOURCE
#include "kr_shim.h"
#include "core/kemi.h"
#include "core/lvalue.h"
#include "core/route.h"
#include "core/rvalue.h"
#include <dlfcn.h>

/* From Kamailio 5.7 on the numbers of expressions are longs. */
#if VERSIONVAL >= 5007000
#define KR_RVE_NUMBER_OP RVE_LONG_OP
#else
#define KR_RVE_NUMBER_OP RVE_INT_OP
#endif

/* Routes that a reply_route calls are followed so deep. */
#define DEEPEST 32

static enum kr_reply_route actions_ask(struct action *first, int depth);

/* Whether a function of a module belongs to tm, or to tmx. */
static enum kr_reply_route function_asks(void *function)
{
	Dl_info library;
	const char *name;
	if(function == NULL || dladdr(function, &library) == 0 || library.dli_fname == NULL)
		return KR_REPLY_ROUTE_PLAIN;
	name = strrchr(library.dli_fname, '/');
	name = name != NULL ? name + 1 : library.dli_fname;
	return strcmp(name, "tm.so") == 0 || strcmp(name, "tmx.so") == 0 ? KR_REPLY_ROUTE_ASKS_TM : KR_REPLY_ROUTE_PLAIN;
}

static enum kr_reply_route worse(enum kr_reply_route a, enum kr_reply_route b)
{
	return a > b ? a : b;
}

static enum kr_reply_route expression_asks(struct rval_expr *expression, int depth);

static enum kr_reply_route value_asks(struct rvalue *value, int depth)
{
	switch(value->type) {
		case RV_ACTION_ST:
			return actions_ask(value->v.action, depth);
		case RV_PVAR:
			return function_asks((void *)value->v.pvs.getf);
		case RV_SEL:
			return function_asks((void *)value->v.sel.f[0]);
		case RV_BEXPR:
			return KR_REPLY_ROUTE_UNREADABLE;
		default:
			return KR_REPLY_ROUTE_PLAIN;
	}
}

static enum kr_reply_route expression_asks(struct rval_expr *expression, int depth)
{
	if(expression == NULL)
		return KR_REPLY_ROUTE_PLAIN;
	if(depth > DEEPEST)
		return KR_REPLY_ROUTE_UNREADABLE;
	switch(expression->op) {
		case RVE_NONE_OP:
			return KR_REPLY_ROUTE_PLAIN;
		case RVE_RVAL_OP:
			return value_asks(&expression->left.rval, depth + 1);
		case RVE_UMINUS_OP:
		case RVE_BOOL_OP:
		case RVE_LNOT_OP:
		case RVE_BNOT_OP:
		case RVE_STRLEN_OP:
		case RVE_STREMPTY_OP:
		case RVE_DEFINED_OP:
		case RVE_NOTDEFINED_OP:
		case KR_RVE_NUMBER_OP:
		case RVE_STR_OP:
			return expression_asks(expression->left.rve, depth + 1);
		case RVE_MATCH_OP:
			/* a pattern that was compiled is a value where an expression was */
			return expression_asks(expression->left.rve, depth + 1);
		default:
			return worse(expression_asks(expression->left.rve, depth + 1),
					expression_asks(expression->right.rve, depth + 1));
	}
}

static enum kr_reply_route operand_asks(action_u_t *operand, int depth)
{
	struct lvalue *target;
	switch(operand->type) {
		case ACTIONS_ST:
		case ACTION_ST:
		case BLOCK_ST:
			return actions_ask(operand->u.data, depth);
		case RVE_ST:
			return expression_asks(operand->u.data, depth);
		case LVAL_ST:
			target = operand->u.data;
			return target != NULL && target->type == LV_PVAR ? function_asks((void *)target->lv.pvs->setf)
															 : KR_REPLY_ROUTE_PLAIN;
		case EXPR_ST:
		case JUMPTABLE_ST:
		case CONDTABLE_ST:
		case MATCH_CONDTABLE_ST:
		case CASE_ST:
			return KR_REPLY_ROUTE_UNREADABLE;
		default:
			return KR_REPLY_ROUTE_PLAIN;
	}
}

static enum kr_reply_route action_asks(struct action *action, int depth)
{
	enum kr_reply_route found = KR_REPLY_ROUTE_PLAIN;
	int i;
	if(is_mod_func(action)) {
		ksr_cmd_export_t *command = action->val[0].u.data;
		return command != NULL ? function_asks((void *)command->function) : KR_REPLY_ROUTE_UNREADABLE;
	}
	if(action->type == ROUTE_T) {
		if(action->val[0].type != NUMBER_ST || action->val[0].u.number < 0
				|| action->val[0].u.number >= main_rt.entries)
			return KR_REPLY_ROUTE_UNREADABLE;
		return actions_ask(main_rt.rlist[action->val[0].u.number], depth);
	}
	for(i = 0; i < MAX_ACTIONS; i++)
		found = worse(found, operand_asks(&action->val[i], depth));
	return found;
}

static enum kr_reply_route actions_ask(struct action *first, int depth)
{
	enum kr_reply_route found = KR_REPLY_ROUTE_PLAIN;
	if(depth > DEEPEST)
		return KR_REPLY_ROUTE_UNREADABLE;
	for(; first != NULL && found == KR_REPLY_ROUTE_PLAIN; first = first->next)
		found = action_asks(first, depth + 1);
	return found;
}

enum kr_reply_route kr_reply_route(void)
{
	if(sr_kemi_eng_get() != NULL && kemi_reply_route_callback.len > 0)
		return KR_REPLY_ROUTE_UNREADABLE;
	return actions_ask(onreply_rt.rlist[DEFAULT_RT], 0);
}
