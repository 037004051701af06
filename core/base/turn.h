/* SPDX-License-Identifier: Apache-2.0
 * Who has a processor first when there are fewer than threads: the one that answers a person, then those that compute. Both concern the calling
 * thread, need no rights, and do nothing where the system does not know them. */
#ifndef BL_BASE_TURN_H
#define BL_BASE_TURN_H

void bl_thread_computes(void); /* nice +5, and never in anybody's way when it wakes; for every thread with long work; threads it starts inherit it */
void bl_thread_answers(void);  /* short turns, which Linux 6.12 and later give at once to a thread that wakes; threads it starts do not inherit them */

#endif
