/** Upgrades of a branch's server in place, beside that of test/integration/upgrades.test.ts. */
import t from 'tap';
import { whyNoJars } from '../../deploy/rig/install/jar.ts';
import { upgradeInPlace } from '../support/world/upgrade.ts';

const skip = (await whyNoJars()) ?? false;

// MySQL 9.7 takes no data of 8.0, only of 8.4, which is not to be had here: this is what an upgrade within 8.0 is.
void t.test('MySQL 8.0.15 to 8.0.31', { skip }, t => upgradeInPlace(t, 'mysql-8.0.15', 'mysql-8.0.31'));
void t.test('MariaDB 10.6 to the newest', { skip }, t => upgradeInPlace(t, 'mariadb-10.6'));
void t.test('MariaDB 10.6 to 10.11', { skip }, t => upgradeInPlace(t, 'mariadb-10.6', 'mariadb-10.11'));
