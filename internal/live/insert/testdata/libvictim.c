#include "guarded.h"

GUARDED(lib_guarded, 3);
