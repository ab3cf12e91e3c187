/* libxml2: its free function is a variable behind a macro. */
#include "kr_shim.h"
#include <libxml/globals.h>

void kr_xml_free(void *text)
{
	xmlFree(text);
}
