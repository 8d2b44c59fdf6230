-- What one server takes for a comment is a statement to the other.
ALTER TABLE comments_a COMMENT = 'x' /*M!100100 , RENAME TO comments_a2 */;
-- @only mysql
INSERT INTO comments_a VALUES (3, 'still there');
TRUNCATE TABLE /*M!100100 other. */ comments_b;
ALTER TABLE comments_c COMMENT = 'x' /*!50700 , RENAME TO comments_c2 */;
INSERT INTO comments_c2 VALUES (3, 'renamed');
ALTER TABLE comments_d COMMENT = 'x' /*!100000 , RENAME TO comments_d2 */;
INSERT INTO comments_d VALUES (3, 'still there');
-- @only mariadb
INSERT INTO comments_a2 VALUES (3, 'renamed');
TRUNCATE TABLE /*M!100100 {schema}. */ comments_b;
ALTER TABLE comments_c COMMENT = 'x' /*!50700 , RENAME TO comments_c2 */;
INSERT INTO comments_c VALUES (3, 'still there');
ALTER TABLE comments_d COMMENT = 'x' /*!100000 , RENAME TO comments_d2 */;
INSERT INTO comments_d2 VALUES (3, 'renamed');
ALTER TABLE comments_f WAIT /* seconds */ 5 ADD COLUMN w INT NOT NULL DEFAULT 7;
-- @only both
ALTER TABLE comments_e COMMENT = 'x' /*!999999 , RENAME TO comments_e2 /* not yet */ */;
INSERT INTO comments_e VALUES (4, 'still there');
RENAME /* a */ TABLE # , comments_x TO comments_y
comments_e -- comments_g
TO /* b */ comments_e3 /*!50100 , comments_g TO comments_g3 */;
INSERT INTO comments_e3 VALUES (5, 'renamed');
INSERT INTO comments_g3 VALUES (5, 'renamed');
TRUNCATE /* x */ `{schema}` /* . */ . /**/ `comments_f` # y;
DROP /*!40005 TEMPORARY */ TABLE IF EXISTS comments_b;
DROP /* TEMPORARY */ TABLE /*!999999 IF EXISTS */ comments_b /* , comments_e3 */;
ALTER TABLE comments_parts TRUNCATE /* x */ PARTITION p0;
ALTER TABLE comments_parts /* x */ DROP/**/PARTITION p1;
ALTER TABLE comments_parts EXCHANGE /* x */ PARTITION p2 /* x */ WITH /* x */ TABLE comments_part;
INSERT INTO comments_part VALUES (30, 3);
